import pytest

from hpl_gym.cache import cache_folder, cache_path
from hpl_gym.core import HPLGymError


def test_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HPL_CACHE", raising=False)
    assert cache_path("sql") == tmp_path / ".cache" / "hpl-gym" / "sql"
    monkeypatch.setenv("HPL_CACHE", "~/own")
    assert not cache_path("sql").exists()
    assert cache_folder("sql") == cache_path("sql") == tmp_path / "own" / "sql"
    assert cache_folder("sql").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "file"))
    with pytest.raises(HPLGymError, match="set HPL_CACHE"):
        cache_folder()
