"""The story of two devices, told on real parts: swtpm, mosquitto, the verifier, two daemons."""
