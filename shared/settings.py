"""What an operator sets, from the environment (prefix `REGROW_`) or a `.env` file; nothing else is configuration."""

import base64
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import addresses

GiB = 1024**3

BUCKETS = ("s3://", "gs://", "az://")
"""How a REGROW_STORAGE begins that is no folder."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The addresses of this machine alone, where a key is optional."""

_REPOSITORIES = re.compile(r"[A-Za-z0-9_.*-]+/[A-Za-z0-9_.*-]+")


class Settings(BaseSettings):
    """All settings, checked and frozen. Every one has a default that suits one machine."""

    model_config = SettingsConfigDict(env_prefix="REGROW_", env_file=".env", extra="ignore", frozen=True)

    data: Path = Field(Path("data"), description="Folder for the database, stored images and archives.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: an SQLite file in the data folder.")
    broker_url: SecretStr = Field(
        SecretStr(""), description="Redis URL of the queue; empty: only `regrow serve`, which starts its own."
    )

    storage: str = Field(
        "",
        description="Where stored files lie: a folder, or a bucket as s3://BUCKET/PREFIX, gs://… or az://…, with "
        "credentials as its provider's own tools take them; empty: `storage` in the data folder.",
    )
    storage_http: bool = Field(False, description="Whether a bucket's endpoint may be plain http, as in MinIO's case.")
    presigned_downloads: bool = Field(
        True,
        description="Whether archives in a bucket are fetched from it, by URLs that are valid for a few minutes; else "
        "they pass through the API.",
    )

    priors: str = Field(
        "", description="Folder of further priors, one a sub-folder and named after it; empty: only the built-in one."
    )

    hub_allow: str = Field(
        "",
        description="Repositories of a model hub from which priors may be fetched, as ORG/NAME with `*` for anything, "
        "with commas between them; empty: none, and nothing is ever connected to.",
    )
    hub_endpoint: str = Field(
        "https://huggingface.co", description="Address of the hub, or of a mirror that speaks as it does."
    )
    offline: bool = Field(False, description="Whether nothing may be fetched, whatever `hub_allow` says.")

    require_key: bool = Field(
        False, description="Whether requests from this machine need a key too; those from elsewhere always do."
    )
    hosts: str = Field(
        "",
        description="Names that the service answers to beside localhost, with commas between them; empty: without "
        "`require_key` none, with it any.",
    )

    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`; `cuda` never falls back to the CPU.")
    samplers: Annotated[int, Field(ge=0)] = Field(
        0, description="Samplers of one `regrow serve`; 0: one on a GPU, on a CPU one a core (8 at most)."
    )
    threads: Annotated[int, Field(ge=1)] = Field(
        1, description="CPU threads of one sampler. The same number gives the same bytes on a CPU."
    )
    batch: Annotated[int, Field(ge=0, le=256)] = Field(
        0,
        description="Most items sampled at once on a GPU, whatever a job asks for; 0: no other bound than the memory. "
        "A CPU always samples one at a time.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What networks compute in; `auto`: bfloat16 on GPUs that are made for it, float32 elsewhere. "
        "Latents, noise levels and what is measured are float32 in any case.",
    )
    compile: bool = Field(
        False,
        description="Whether torch.compile makes kernels for what is not differentiated: minutes at first for each "
        "prior and canvas, then faster.",
    )
    gpu_reserve_gb: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="So much of the GPU's memory, in GiB, is left to others; without a GPU, of the machine's. Priors "
        "that were not used for long make way.",
    )
    prior_idle_seconds: Annotated[float, Field(ge=0)] = Field(
        300.0, description="After so long without work no prior stays loaded; 0: they stay."
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
        "ended and its items are made again; ten times as long where kernels are compiled.",
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

    max_datasets: Annotated[int, Field(ge=0)] = Field(
        10_000, description="Most datasets of a project, unfinished uploads among them; 0: any number."
    )
    max_jobs: Annotated[int, Field(ge=0)] = Field(100_000, description="Most jobs of a project; 0: any number.")
    max_project_items: Annotated[int, Field(ge=0)] = Field(
        5_000_000, description="Most output images of all jobs of a project; 0: any number."
    )
    max_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        6_000,
        description="Most requests a minute with one key, and at once; each API process counts its own. Requests "
        "without a key, which come from this machine, are not counted. 0: any number.",
    )

    hsts_seconds: Annotated[int, Field(ge=0)] = Field(
        31_536_000,
        description="Over TLS, for how long a browser is told to use nothing else with this host, on any port; 0: it "
        "is not told.",
    )

    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="`whsec_` and 24 to 64 bytes in base64, with which webhooks are signed; empty: none are sent.",
    )
    webhook_url: str = Field("", description="Who is told of the end of each job that names no webhook; empty: nobody.")
    webhook_networks: str = Field(
        "", description="Networks beside the public ones to which webhooks may go, with commas between them."
    )

    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Of the lines of the log; `auto`: text on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least weight of a line that is written. `debug` has each request that only read."
    )

    @field_validator("hub_allow")
    @classmethod
    def _are_repositories(cls, value: str) -> str:
        for pattern in _listed(value):
            if not _REPOSITORIES.fullmatch(pattern):
                raise ValueError(f"{pattern!r} is no repository: write ORG/NAME, with * for anything")
        return value

    @field_validator("hub_endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/@]+(/[^\s?#@]*)?", value):
            raise ValueError(f"{value!r} is no address such as https://huggingface.co")
        return value.rstrip("/")

    @field_validator("storage")
    @classmethod
    def _is_a_folder_or_a_bucket(cls, storage: str) -> str:
        if "://" in storage and not storage.startswith(BUCKETS):
            raise ValueError(f"{storage!r} is neither a folder nor a bucket, which begins with {', '.join(BUCKETS)}")
        return storage

    @field_validator("webhook_secret")
    @classmethod
    def _can_sign(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if secret and not (secret.startswith("whsec_") and 24 <= len(key) <= 64):
            raise ValueError("must be whsec_ and 24 to 64 bytes in base64 (openssl rand -base64 32)")
        return value

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        addresses.networks(value)
        return value

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.webhook_url:
            addresses.parse(self.webhook_url)
            if not self.webhook_secret.get_secret_value():
                raise ValueError("REGROW_WEBHOOK_URL needs REGROW_WEBHOOK_SECRET")
        return self

    @property
    def webhook_allowed(self) -> tuple[addresses.Network, ...]:
        return addresses.networks(self.webhook_networks)

    @model_validator(mode="after")
    def _renewal_fits_in_the_lease(self) -> Self:
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("REGROW_RENEW_SECONDS must be at most half of REGROW_LEASE_SECONDS")
        return self

    def may_fetch(self, repo: str) -> bool:
        """Whether priors may be fetched from a repository of the hub."""
        return not self.offline and any(fnmatchcase(repo, pattern) for pattern in _listed(self.hub_allow))

    @property
    def fetches(self) -> bool:
        """Whether priors may be fetched from anywhere."""
        return not self.offline and bool(_listed(self.hub_allow))

    @property
    def host_names(self) -> frozenset[str]:
        """`hosts`, as a Host header has them."""
        return frozenset(name.strip().lower() for name in self.hosts.split(",") if name.strip())

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
    def step_seconds(self) -> float:
        """How long a step may take before it counts as hanging: in the first, kernels may be made."""
        return self.hang_seconds * (10 if self.compile else 1)

    @property
    def gpu_reserve_bytes(self) -> int:
        return int(self.gpu_reserve_gb * GiB)

    @property
    def in_bucket(self) -> bool:
        """Whether stored files lie in a bucket."""
        return self.storage.startswith(BUCKETS)

    @property
    def storage_folder(self) -> Path:
        """The folder of stored files, where they lie in one."""
        return Path(self.storage) if self.storage else self.data / "storage"

    @property
    def spool(self) -> Path:
        """The folder of what has to be local although stored files lie in a bucket."""
        return self.data / "spool"


def _listed(value: str) -> list[str]:
    return [each.strip() for each in value.split(",") if each.strip()]
