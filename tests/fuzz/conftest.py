"""How long to look: as long as for any other test, or, by `make fuzz`, for hours."""

from hypothesis import HealthCheck, settings

settings.register_profile("long", max_examples=20_000, suppress_health_check=list(HealthCheck))
