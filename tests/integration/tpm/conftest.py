from tests.simulators.swtpm import endorsed_state, endorsed_swtpm, swtpm

__all__ = ["endorsed_state", "endorsed_swtpm", "swtpm"]
