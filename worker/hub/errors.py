"""Why a prior cannot be fetched."""


class CannotFetch(Exception):
    """`kind` never changes, `detail` is for people; `final`: trying again later would end the same way."""

    def __init__(self, kind: str, detail: str, *, final: bool = True) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.final = kind, detail, final
