"""Wire formats: CBOR evidence in a CMW collection, enrolment messages, EAR results."""
