"""What an operator sets, from the environment (prefix `REGROW_`) or a `.env` file; nothing else is configuration."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GiB = 1024**3

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The addresses of this machine alone, the only ones that are served while there are no keys."""


class Settings(BaseSettings):
    """All settings, checked and frozen. Every one has a default that suits one machine."""

    model_config = SettingsConfigDict(env_prefix="REGROW_", env_file=".env", extra="ignore", frozen=True)

    data: Path = Field(Path("data"), description="Folder for the database, stored images and archives.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: an SQLite file in the data folder.")
    broker_url: SecretStr = Field(
        SecretStr(""), description="Redis URL of the queue; empty: only `regrow serve`, which starts its own."
    )

    priors: str = Field(
        "", description="Folder of further priors, one a sub-folder and named after it; empty: only the built-in one."
    )

    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`; `cuda` never falls back to the CPU.")
    samplers: Annotated[int, Field(ge=0)] = Field(
        0, description="Samplers of one `regrow serve`; 0: one on a GPU, on a CPU one a core (8 at most)."
    )
    threads: Annotated[int, Field(ge=1)] = Field(
        1, description="CPU threads of one sampler. The same number gives the same bytes on a CPU."
    )
    batch: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Items sampled at once on a GPU; 0: chosen by the worker. A CPU always samples one at a time."
    )

    lease_seconds: Annotated[float, Field(gt=0)] = Field(
        30.0, description="A worker that does not renew its claim for this long has lost it."
    )
    renew_seconds: Annotated[float, Field(gt=0)] = Field(
        2.0, description="How often a worker renews its claim, notes its step and learns of a cancel."
    )
    sweep_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="How often lapsed claims are freed and forgotten hints sent again."
    )

    hang_seconds: Annotated[float, Field(gt=0)] = Field(
        120.0,
        description="A sampler hangs when no step has ended for this long, nor for 20 times its median step: it is "
        "ended and its items are made again.",
    )

    min_free_gb: Annotated[float, Field(ge=0)] = Field(
        1.0, description="With less free space than this for stored files, in GiB, work waits."
    )
    max_upload_bytes: Annotated[int, Field(gt=0)] = Field(8 * GiB, description="Largest archive taken, in bytes.")
    upload_expires_hours: Annotated[float, Field(gt=0)] = Field(
        24.0, description="An upload in pieces to which nothing was added for so many hours is thrown away."
    )
    stray_hours: Annotated[float, Field(ge=1)] = Field(
        168.0, description="A stored file that no row knows, and nobody wrote to for so many hours, is removed."
    )
    max_archive_bytes: Annotated[int, Field(gt=0)] = Field(
        64 * GiB, description="Largest sum of the unpacked sizes in an archive, in bytes."
    )
    max_archive_members: Annotated[int, Field(gt=0)] = Field(400_000, description="Most files in an archive.")
    max_image_pixels: Annotated[int, Field(gt=0)] = Field(
        64_000_000, description="Largest image taken, in pixels; read from its header before it is decoded."
    )
    max_items: Annotated[int, Field(gt=0)] = Field(200_000, description="Most output images of one job.")

    @model_validator(mode="after")
    def _renewal_fits_in_the_lease(self) -> Self:
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("REGROW_RENEW_SECONDS must be at most half of REGROW_LEASE_SECONDS")
        return self

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.data / 'regrow.db').resolve()}"

    @property
    def upload_expires_seconds(self) -> float:
        return self.upload_expires_hours * 3600

    @property
    def stray_seconds(self) -> float:
        return self.stray_hours * 3600

    @property
    def min_free_bytes(self) -> int:
        return int(self.min_free_gb * GiB)

    @property
    def storage(self) -> Path:
        """The folder of stored bytes."""
        return self.data / "storage"
