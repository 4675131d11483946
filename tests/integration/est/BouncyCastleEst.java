import java.io.FileReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.logging.LogManager;
import javax.net.ssl.KeyManagerFactory;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.pkcs.Attribute;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.est.CACertsResponse;
import org.bouncycastle.est.CSRAttributesResponse;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTException;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.jcajce.ChannelBindingProvider;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseDefaultHostnameAuthorizer;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.jsse.BCSSLSocket;
import org.bouncycastle.jsse.provider.BouncyCastleJsseProvider;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.openssl.jcajce.JcaPEMKeyConverter;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.PKCS10CertificationRequestBuilder;
import org.bouncycastle.util.Store;

/**
 * EST by Bouncy Castle's org.bouncycastle.est: HTTP, base64, PKCS#7 and the signed request are its own
 * work, TLS is its or the JDK's.
 *
 * <pre>
 * BouncyCastleEst HOST:PORT TLS AUTHORITIES.pem CLIENT.pem cacerts|csrattrs
 * BouncyCastleEst HOST:PORT TLS AUTHORITIES.pem CLIENT.pem enrol|renew[-bound] FROM.der KEY.pem
 * </pre>
 *
 * TLS is whose and which: bc: or jdk:, then TLSv1.2 or TLSv1.3. CLIENT.pem holds chain and key (PKCS#8)
 * for mutual TLS; "-" is no certificate. FROM.der is a PKCS#10 request: its subject and attributes go into
 * a new one, which Bouncy Castle signs with KEY.pem. The -bound forms put tls-unique into its
 * challengePassword (RFC 7030, 3.5); that takes bc:TLSv1.2.
 *
 * Certificates are printed as PEM, attributes as one object identifier a line. A refusal is printed to
 * standard error, first line the status, then the body; the exit code is then 3.
 */
public final class BouncyCastleEst {
    private static final ESTAuth NO_PASSWORD = null;

    public static void main(String[] given) throws Exception {
        LogManager.getLogManager().reset(); // standard error is for refusals
        Security.addProvider(new BouncyCastleProvider());
        String operation = given[4];
        try {
            ESTService service = service(given[0], given[1], given[2], given[3]);
            switch (operation) {
                case "cacerts":
                    CACertsResponse authorities = service.getCACerts();
                    if (!authorities.isTrusted()) {
                        throw new IllegalStateException("the server was not authenticated");
                    }
                    print(authorities.getCertificateStore());
                    break;
                case "csrattrs":
                    print(service.getCSRAttributes().getAttributesResponse());
                    break;
                default:
                    print(issued(service, operation, given[5], given[6]));
            }
        } catch (ESTException refused) {
            if (refused.getStatusCode() < 400) { // no answer, or one that cannot be read
                throw refused;
            }
            System.err.println(refused.getStatusCode());
            System.err.println(text(refused));
            System.exit(3);
        }
    }

    private static ESTService service(String server, String tls, String authorities, String client)
            throws Exception {
        Set<TrustAnchor> anchors = new HashSet<>();
        for (X509Certificate one : certificates(authorities)) {
            anchors.add(new TrustAnchor(one, null));
        }
        boolean own = tls.startsWith("bc:");
        Provider tlsProvider = own ? new BouncyCastleJsseProvider() : Security.getProvider("SunJSSE");
        JsseESTServiceBuilder builder =
                new JsseESTServiceBuilder(server, JcaJceUtils.getCertPathTrustManager(anchors, null))
                        .withProvider(tlsProvider)
                        .withTLSVersion(tls.substring(tls.indexOf(':') + 1))
                        .withTimeout(30_000)
                        .withHostNameAuthorizer(new JsseDefaultHostnameAuthorizer(new HashSet<>()))
                        .withChannelBindingProvider(new TlsUnique());
        if (!client.equals("-")) {
            char[] unused = new char[0];
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, unused);
            store.setKeyEntry("me", key(client), unused, certificates(client).toArray(new Certificate[0]));
            KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX", tlsProvider);
            keys.init(store, unused);
            builder.withKeyManagers(keys.getKeyManagers());
        }
        return builder.build();
    }

    private static Store<X509CertificateHolder> issued(
            ESTService service, String operation, String from, String key) throws Exception {
        PKCS10CertificationRequest like =
                new PKCS10CertificationRequest(Files.readAllBytes(Path.of(from)));
        PKCS10CertificationRequestBuilder request =
                new PKCS10CertificationRequestBuilder(like.getSubject(), like.getSubjectPublicKeyInfo());
        for (Attribute one : like.getAttributes()) {
            request.addAttribute(one.getAttrType(), one.getAttributeValues());
        }
        ContentSigner signer = new JcaContentSignerBuilder("SHA256withECDSA").build(key(key));
        boolean renews = operation.startsWith("renew");
        EnrollmentResponse answer =
                operation.endsWith("-bound")
                        ? service.simpleEnrollPoP(renews, request, signer, NO_PASSWORD)
                        : service.simpleEnroll(renews, request.build(signer), NO_PASSWORD);
        if (!answer.isCompleted()) {
            throw new IllegalStateException("told to come again, at " + answer.getNotBefore());
        }
        return answer.getStore();
    }

    private static void print(Store<X509CertificateHolder> found) throws Exception {
        for (X509CertificateHolder one : found.getMatches(null)) {
            System.out.println("-----BEGIN CERTIFICATE-----");
            System.out.println(java.util.Base64.getMimeEncoder().encodeToString(one.getEncoded()));
            System.out.println("-----END CERTIFICATE-----");
        }
    }

    private static void print(CSRAttributesResponse wanted) {
        for (ASN1ObjectIdentifier one : wanted.getRequirements()) {
            System.out.println((wanted.isAttribute(one) ? "attribute " : "oid ") + one);
        }
    }

    private static String text(ESTException refused) throws IOException {
        return refused.getBody() == null
                ? ""
                : new String(refused.getBody().readAllBytes(), StandardCharsets.UTF_8);
    }

    private static List<X509Certificate> certificates(String path) throws Exception {
        List<X509Certificate> found = new ArrayList<>();
        for (X509CertificateHolder one : read(path, X509CertificateHolder.class)) {
            found.add(new JcaX509CertificateConverter().getCertificate(one));
        }
        return found;
    }

    private static PrivateKey key(String path) throws Exception {
        return new JcaPEMKeyConverter().getPrivateKey(read(path, PrivateKeyInfo.class).get(0));
    }

    private static <T> List<T> read(String path, Class<T> kind) throws IOException {
        List<T> found = new ArrayList<>();
        try (PEMParser parser = new PEMParser(new FileReader(path, StandardCharsets.US_ASCII))) {
            for (Object one = parser.readObject(); one != null; one = parser.readObject()) {
                if (kind.isInstance(one)) {
                    found.add(kind.cast(one));
                }
            }
        }
        return found;
    }

    /** The binding that the JDK's own TLS does not tell, of Bouncy Castle's. */
    private static final class TlsUnique implements ChannelBindingProvider {
        @Override
        public boolean canAccessChannelBinding(java.net.Socket socket) {
            return socket instanceof BCSSLSocket && getChannelBinding(socket, "tls-unique") != null;
        }

        @Override
        public byte[] getChannelBinding(java.net.Socket socket, String kind) {
            return ((BCSSLSocket) socket).getConnection().getChannelBinding(kind);
        }
    }
}
