"""IMA measurement lists (Linux ``security/integrity/ima``): reading, replay, proof.

============ ===============================================================
template.py  what the hashed bytes of one entry say
framing.py   binary lists: where one entry ends and the next begins
text.py      ascii lists, turned into binary ones
measured.py  a list as a value, and its replay, for commands without a quote
follow.py    the proof: one pass over a list, held against quoted PCRs
aggregate.py boot_aggregate: which boot a list belongs to
signature.py file signatures (``security.ima``)
modsig.py    signatures behind a file's content
progress.py  what a verifier remembers between two pieces of one list
============ ===============================================================

A list is a claim. Nothing in it is believed but what leads to a quoted PCR value.
"""

from attestation.logs.ima.framing import ImaEntry
from attestation.logs.ima.measured import ImaList, parse_ima_list, replay_ima

__all__ = ["ImaEntry", "ImaList", "parse_ima_list", "replay_ima"]
