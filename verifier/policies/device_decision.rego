# Decision policy: may this device have what it asks for, now?
#
# Input is the device's PDP document (verifier.decision.decide.pdp_document) with `now` in epoch
# seconds; data.config holds {"allow_warning": bool}. Written in the subset of Rego that OPA,
# rego-cpp and regorus evaluate alike. Everything that is absent denies.

package device_attestation.decision

import rego.v1

default allow := false

accepted contains "affirming"

accepted contains "warning" if data.config.allow_warning == true

deny contains "device-revoked: the device was revoked" if input.revoked != false

deny contains "result-absent: no attestation result for this device" if not input.posture.status

deny contains reason if {
	not accepted[input.posture.status]
	reason := concat("", ["posture-", input.posture.status, ": the last result is ", input.posture.status])
}

deny contains "result-expired: the last attestation result is too old" if {
	input.posture.status
	not fresh
}

# Texts, lists and objects come after all numbers, so kinds are checked before order is.
fresh if {
	is_number(input.now)
	is_number(input.posture.exp)
	input.now < input.posture.exp
	input.now >= input.posture.iat - 5
}

# `revoked` must be present: a document that does not say is not one of ours.
allow if {
	input.revoked == false
	accepted[input.posture.status]
	fresh
	count(deny) == 0
}

decision := {"allow": allow, "reasons": sort(deny)}
