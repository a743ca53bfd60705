"""An installation of a module's own, whose servers and processes its tests kill."""

from collections.abc import Iterator

import pytest
from stage import Stage, open_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage")) as made:
        yield made
