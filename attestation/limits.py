"""Every cap on hostile input, in one place, each with its reason. Units are in the names."""

MAX_IMA_PART_BYTES = 24 * 1024 * 1024
"""The new entries of an IMA list in one evidence. A list can only be proven whole, so the first
evidence of a boot holds all of it: 100 000 entries are 10 to 20 MB."""

MAX_EVIDENCE_BYTES = 32 * 1024 * 1024
"""One evidence message: the largest IMA list, firmware log and agent log that we take, plus
quote and claims. Without an IMA list no message gets near it, since each part has its cap."""

MAX_ENROLMENT_BYTES = MAX_EVIDENCE_BYTES + 256 * 1024
"""One enrolment request: evidence plus three certificate chains, a CSR, certifications, proofs."""

MAX_ACTIVATION_REQUEST_BYTES = 32 * 1024
"""An EK with its chain and an attestation key's public area; real ones have 2 to 8 kB."""

MAX_CLOUD_DOCUMENT_BYTES = 16 * 1024
"""A signed instance identity document or a managed identity token; real ones have 1 to 3 kB."""

MAX_ENROLMENT_PROOFS = 16
"""Proofs by name in one enrolment request."""

MAX_PROOF_BYTES = 64 * 1024
"""One such proof, or a result that is shown; both are JWTs of a few kB."""

MAX_ENROLMENT_CLASSES = 256
"""Classes of devices, or of agents, in one enrolment policy."""

MAX_TRUST_TERMS = 32
"""Names in one initial trust expression; there are five to name."""

MAX_LISTED_EKS = 1_000_000
"""Endorsement keys in one allow list: 32 bytes each in memory."""

MAX_AGENT_REQUEST_BYTES = MAX_ENROLMENT_BYTES
"""An AI agent's request: evidence, or an AIBOM with its endorsement, and what is small beside."""

MAX_AGENTS_PER_DEVICE = 128
"""AI agents that one device may enrol: each is a row for good, its name is not given again."""

MAX_CAPABILITIES = 64
"""Capabilities of one agent, and scopes in one owner binding: they stand in its certificate."""

MAX_CAPABILITY_CHARS = 128
"""One capability; OAuth scopes in use have 5 to 60 characters."""

MAX_VALIDATION_METHODS = 16
"""Ways in which a registry may have an agent prove itself; a handful are known."""

MAX_LOCATOR_CHARS = 2048
"""Where an agent is reached: as long as a workload identifier may be (WIMSE, 2048 bytes)."""

MAX_OWNER_CHARS = 256
"""An owner's id: a mail address, a role, a URI."""

MAX_OWNER_BINDING_CHARS = 16 * 1024
"""One signed owner binding: 64 scopes of 128 characters in base64, twice."""

MAX_WORKLOAD_TOKEN_CHARS = 32 * 1024
"""One workload identity token; ours have 600 to 12 000 characters."""

MAX_TOKEN_PROOF_CHARS = 8 * 1024
"""One proof of possession (DPoP); ours have about 600 characters, of RSA 4096 about 2 500."""

MAX_CMS_DEPTH = 16
"""Elements within elements of a signed instance identity document; real ones nest nine deep."""

MAX_FIRMWARE_LOG_BYTES = 4 * 1024 * 1024
"""Real firmware logs in ``tests/data`` reach 73 kB; Linux itself reserves far below 1 MiB."""

MAX_FIRMWARE_LOG_EVENTS = 65_536
"""Real logs hold 20 to 200 events."""

MAX_LOG_BANKS = 8
"""Digest algorithms a log's Specification ID event may name; real logs name one to four."""

MAX_CBOR_DEPTH = 8
"""Evidence needs four levels."""

MAX_CMW_PARTS = 16
"""Labels in one CMW collection."""

MAX_CERTIFICATE_BYTES = 16 * 1024
"""One DER certificate; real EK and IDevID certificates are 0.8 to 2 kB."""

MAX_CHAIN_LENGTH = 6
"""Certificates in one presented chain, leaf included."""

MAX_CSR_BYTES = 16 * 1024
"""One PKCS#10 request."""

MAX_ATTESTED_CSR_BYTES = 12 * 1024 * 1024
"""A PKCS#10 request with evidence in it: a firmware log and an IMA list of some 100 000 entries.
Our DER reader takes lengths of three octets. Larger lists enrol by the door of our own."""

MAX_EST_BODY_BYTES = MAX_ATTESTED_CSR_BYTES // 3 * 4 + MAX_ATTESTED_CSR_BYTES // 24
"""Such a request in base64, with a line break of two octets after every 64 characters."""

MAX_NONCE_MESSAGE_BYTES = 4 * 1024
"""One request for, or answer with, a nonce (draft-ietf-lamps-attestation-freshness)."""

MAX_CSR_STATEMENTS = 16
"""Attestation statements in one request: three certifications, evidence, proofs, and room."""

MAX_TPM_STRUCTURE_BYTES = 4 * 1024
"""One marshalled TPMT_PUBLIC, TPMS_ATTEST or TPMT_SIGNATURE; RSA-4096 needs about 600 bytes."""

MAX_PCR_SELECTIONS = 8
"""Banks in one TPML_PCR_SELECTION (TPM 2.0 Part 2, HASH_COUNT is below 16 on real parts)."""

MAX_CLAIMS_BYTES = 16 * 1024
"""The device's own claims (host facts), CBOR encoded."""

MAX_DEVICE_ID_CHARS = 63
"""One MQTT topic level, one DNS label, one certificate CN."""

MAX_IMA_LIST_BYTES = 64 * 1024 * 1024
"""An IMA list grows while a machine runs: 100 000 entries are 10 to 20 MB."""

MAX_IMA_ENTRIES = 500_000
"""Entries of one IMA list."""

MAX_AGENT_LOG_BYTES = 2 * 1024 * 1024
"""The AI agent's measurement log, in one evidence and on the device: 150 to 350 bytes a record, so
6000 records or more. With the largest IMA list and firmware log it fits into one evidence."""

MAX_AGENT_RECORDS = 16_384
"""Records in one agent log; the device agent stops measuring there and says so."""

MAX_AGENT_PATH_BYTES = 4096
"""Linux's PATH_MAX."""

MAX_AIBOM_BYTES = 8 * 1024 * 1024
"""One AIBOM: some 300 bytes for each component and file."""

MAX_AIBOM_COMPONENTS = 50_000
"""Components of one AIBOM, nested ones included."""

MAX_AIBOM_DEPTH = 16
"""Components within components; real ones nest three deep."""

MAX_ENDORSEMENT_BYTES = 12 * 1024 * 1024
"""One DSSE envelope; its payload may hold a whole AIBOM in base64."""

MAX_DSSE_SIGNATURES = 16
"""Signatures on one envelope; real ones have one to three."""

MAX_STATEMENT_SUBJECTS = 10_000
"""Subjects of one in-toto statement; a model in shards has hundreds."""

MAX_IMA_FIELD_BYTES = 64 * 1024
"""One name or template data of an IMA entry: a path, a signature, a key or a command line."""

MAX_SIGNATURE_LISTS = 1024
"""EFI signature lists in one Secure Boot variable; a real db has one per certificate, below 20."""

MAX_SIGNATURE_ENTRIES = 65_536
"""Entries of one Secure Boot variable; the largest real dbx has below 1000."""

MAX_DEVICE_PATH_NODES = 64
"""Nodes shown of one UEFI device path; real ones have below 12."""

MAX_SIPA_DEPTH = 8
"""Containers within containers of a Windows event; real ones reach three."""

MAX_TAGGED_EVENTS = 4096
"""Tagged events within one EV_EVENT_TAG; Windows logs below 400."""

MAX_GPT_PARTITIONS = 1024
"""Partitions of one measured partition table; a GPT has room for 128."""

MAX_HANDOFF_TABLES = 256
"""Tables of one handoff event; real ones name one to ten."""

MAX_CERTIFICATE_EXTENSIONS = 64
"""Extensions of one TPM maker's certificate; real ones have at most 12."""

MAX_PEM_BYTES = 2 * 1024 * 1024
"""One PEM text with certificates; the TPM makers' bundle with its comments is below 400 kB."""

MAX_PATH_SIGNATURES = 32
"""Signatures checked while looking for one path from an EK to a root; real paths need 1 to 5."""

MAX_ACTIVATION_FILE_BYTES = 16 * 1024
"""A challenge or answer at manufacture; with an RSA-4096 EK a challenge is below 1.5 KiB."""

MAX_CORIM_BYTES = 1024 * 1024
"""One CoRIM: reference values of one machine and 24 PCRs in three banks need about 3 kB."""

MAX_CORIM_DEPTH = 16
"""A CoMID's digests stand eleven levels deep; tags count as levels."""

MAX_CORIM_TAGS = 256
"""CoMIDs in one CoRIM: machine types that one manifest speaks of."""

MAX_NAME_ATTRIBUTES = 32
"""Attributes shown of one certificate's subject; real ones have below eight."""

MAX_REVOCATION_LIST_BYTES = 16 * 1024 * 1024
"""One file of a maker's revocation lists; an entry takes some 40 bytes, so 400 000 units."""

MAX_RIM_BYTES = 256 * 1024
"""One PC Client base RIM; real ones have 3 to 6 kB."""

MAX_RIM_DEPTH = 16
"""Elements within elements of a base RIM; real ones nest six deep, in the signature."""

MAX_RIM_FILES = 64
"""Support files that one base RIM names; real ones name one to three."""

MAX_RIM_REFERENCES = 4
"""References under one XML signature: the RIM, and perhaps a time stamp."""

MAX_MODSIG_BYTES = 16 * 1024
"""One appended file signature (PKCS#7); without certificates it takes 400 to 800 bytes."""

MAX_SIGNED_ATTRIBUTES = 16
"""Signed attributes of one appended signature; signing tools write three or four."""

MAX_OCSP_REQUEST_BYTES = 16 * 1024
"""One OCSP request; with one certificate it takes some 100 bytes, 300 with a nonce and a name."""

MAX_OCSP_CERTIFICATES = 64
"""Certificates asked for in one OCSP request; clients ask for one, or for their chain."""

MAX_OCSP_NONCE_BYTES = 128
"""A longer nonce must be refused (RFC 9654, 2.1)."""
