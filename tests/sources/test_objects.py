"""A table and images in an object store: fetched as they are, told of in sentences, and looked at by `dvc repro`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from biopsy.core.errors import BiopsyError, MachineError
from biopsy.core.outside import look_again, watch
from biopsy.core.sections.data import Data
from biopsy.sources.fetch import fill, outside_paths
from servers import GoogleStore, google_server, s3_client, s3_server

ADDRESS = {"csv": "s3://my-bucket/my.csv", "images": "s3://my-bucket/all/images"}
DATA = Data(source="local", local=ADDRESS)
CONTENT = {"a/1.png": b"one", "a/2.PNG": b"two", "3.png": b"three"}
OTHERS = {"readme.txt": b"x", "unnamed.png": b"y", "../../evil.png": b"z"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket with a table and images, as the environment of a user who may read it has it."""
    given = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.chdir(tmp_path)
    client = s3_client(endpoint)
    rows = "".join(f"{name}\n" for name in [*CONTENT, "evil.png"])
    client.put_object(Bucket="my-bucket", Key="my.csv", Body=b"file\n" + rows.encode())
    for name, content in (CONTENT | OTHERS).items():
        client.put_object(Bucket="my-bucket", Key=f"all/images/{name}", Body=content)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield client
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def fetched(name: str, data: Data = DATA) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Fill a folder; return its images, and what is told of them."""
    folder = Path(name)
    folder.mkdir()
    facts = fill(data, folder, Path("downloads"))
    images = folder / "images"
    return {p.relative_to(images).as_posix(): p.read_bytes() for p in images.rglob("*") if p.is_file()}, facts


def test_images_that_the_table_names_are_fetched_and_the_others_counted(bucket: Any) -> None:
    images, facts = fetched("raw")
    assert images == CONTENT
    assert Path("raw/metadata.csv").read_text().startswith("file\na/1.png\n")
    assert facts["left_out"] == {"not an image": 1, "not named in the CSV": 1, "name that is no path": 1}


def test_class_folders_of_a_store_are_labels_and_flat_images_are_refused_before_any_is_fetched(bucket: Any) -> None:
    data = Data(source="local", local={"images": "s3://my-bucket/all"})
    Path("raw").mkdir()
    with watch("fetch", outside_paths(data)):
        fill(data, Path("raw"), Path("downloads"))
    labels = [row.split(",")[2:4] for row in Path("raw/metadata.csv").read_text().splitlines()[1:]]
    assert ["images/a/1.png", "a"] in labels
    assert ["images/3.png", "images"] in labels
    assert not look_again()
    Path("flat").mkdir()
    with pytest.raises(BiopsyError, match=r"images lie in no folder of a class \(3\.png"):
        fill(DATA.model_copy(update={"local": {"images": ADDRESS["images"]}}), Path("flat"), Path("new"))
    assert not Path("new").exists()


def test_a_fetch_that_broke_off_goes_on_and_one_of_changed_objects_fetches_those(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = fsspec.get_filesystem_class("s3"), []
    usual = store.get_file

    def get_file(self: Any, path: str, target: str) -> None:
        asked.append(path.removeprefix("my-bucket/all/images/"))
        usual(self, path, target)
        if len(asked) == 3:  # the table is the first
            Path(target).write_bytes(b"")

    monkeypatch.setattr(store, "get_file", get_file)
    monkeypatch.setattr("biopsy.sources.objects.AT_ONCE", 1)
    with pytest.raises(BiopsyError, match=r"data.local.images: a/1.png arrived with 0 of 3 bytes. Run `dvc repro`"):
        fetched("raw")
    assert fetched("again")[0] == CONTENT
    assert sorted(asked) == ["3.png", "a/1.png", "a/1.png", "a/2.PNG", "my-bucket/my.csv"]
    bucket.put_object(Bucket="my-bucket", Key="all/images/3.png", Body=b"THREE")
    assert fetched("changed")[0] == CONTENT | {"3.png": b"THREE"}
    assert asked[5:] == ["3.png"]


def test_dvc_repro_sees_that_an_object_has_changed_and_waits_for_a_store_that_is_away(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(each.path, each.copy) for each in outside_paths(DATA)] == [
        (ADDRESS["csv"], "data/raw/metadata.csv"), (ADDRESS["images"], "data/raw/images"),
    ]  # fmt: skip
    notes = Path("data/outside.yaml")
    with watch("fetch", outside_paths(DATA)):
        pass
    before = notes.read_text()
    assert look_again() == []
    assert notes.read_text() == before
    for key in ("my.csv", "all/images/a/1.png"):
        bucket.put_object(Bucket="my-bucket", Key=key, Body=b"new")
        assert look_again() == []
        before, changed = notes.read_text(), before
        assert changed != before
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert len(look_again()) == 2
    assert notes.read_text() == before


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"address": "s3://other/my.csv"}, BiopsyError, "s3://other/my.csv does not exist: there is no such bucket"),
        ({"address": "s3://my-bucket/my.CSV"}, BiopsyError, "s3://my-bucket/my.CSV does not exist"),
        ({"address": "s3://my-bucket/all"}, BiopsyError, "s3://my-bucket/all is a folder, not a CSV file"),
        ({"address": "nfs://my-bucket/my.csv"}, BiopsyError, "begins with nfs://, which is not a store. Known are s3://"),
        ({"missing": "s3fs"}, MachineError, r"s3://.* needs the package s3fs .*'\.\[s3\]'.*does not have"),
        ({"away": "1"}, BiopsyError, r"s3://my-bucket/my.csv cannot be reached \(.*\). Run `dvc repro` again"),
        ({"unknown": "1"}, BiopsyError, r"no credentials for s3://my-bucket/my.csv \(.*\). Set AWS_PROFILE, or AWS_A"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_with_parameter_and_address(
    bucket: Any, change: dict[str, str], kind: type[BiopsyError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "missing" in change:
        monkeypatch.setattr("fsspec.filesystem", lambda kind: (_ for _ in ()).throw(ImportError))
    if "away" in change:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    if "unknown" in change:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.delenv(f"AWS_{name}")
        for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(f"AWS_{name}", "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    data = Data(source="local", local={**ADDRESS, "csv": change.get("address", ADDRESS["csv"])})
    Path("raw").mkdir()
    with pytest.raises(kind, match=f"^data.local.csv: .*{words}"):
        fill(data, Path("raw"), Path("downloads"))


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStore]:
    """The same table and images in Google Cloud Storage, for anybody to read."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would ask by gRPC what kind of bucket it is
    pytest.importorskip("gcsfs", reason="pip install -r requirements-dev.txt")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setattr("gcsfs.retry.min", lambda *_: 0, raising=False)  # else it tries for half a minute
    monkeypatch.chdir(tmp_path)
    with google_server() as (endpoint, store):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        rows = "".join(f"{name}\n" for name in [*CONTENT, "evil.png"])
        store.objects = {f"all/images/{name}": content for name, content in (CONTENT | OTHERS).items()}
        store.objects["my.csv"] = f"file\n{rows}".encode()
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield store
    fsspec.get_filesystem_class("gs").clear_instance_cache()


def on_google(**change: str) -> Data:
    return Data(source="local", local={name: path.replace("s3:", "gs:") for name, path in ADDRESS.items()} | change)


def test_google_cloud_storage_is_read_as_s3_is_and_a_changed_object_is_seen_and_fetched(google: GoogleStore) -> None:
    for name, content in (("raw", b"three"), ("again", b"THREE")):
        google.objects["all/images/3.png"] = content
        with watch("fetch", outside_paths(on_google())):
            images, facts = fetched(name, on_google())
        assert images == CONTENT | {"3.png": content}
        assert facts["left_out"] == {"not an image": 1, "not named in the CSV": 1, "name that is no path": 1}
    notes = Path("data/outside.yaml")
    before = notes.read_text()
    assert look_again() == []
    assert notes.read_text() == before
    google.objects["all/images/a/1.png"] = b"new"
    assert look_again() == []
    assert notes.read_text() != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"csv": "gs://other/my.csv"}, "gs://other/my.csv does not exist: there is no such bucket"),
        ({"csv": "gs://my-bucket/my.CSV"}, "gs://my-bucket/my.CSV does not exist"),
        ({"csv": "gs://my-bucket/all"}, "gs://my-bucket/all is a folder, not a CSV file"),
        ({"refused": "401"}, r"my.csv may not be read with .*no access.*\). Set GOOGLE_APPLICATION_CREDENTIALS"),
        ({"refused": "403"}, r"my.csv may not be read with .*no access.*\). Set GOOGLE_APPLICATION_CREDENTIALS"),
        ({"refused": "503"}, r"gs://my-bucket/my.csv cannot be reached \(.*\). Run `dvc repro` again"),
        ({"away": "1"}, r"gs://my-bucket/my.csv cannot be reached \(.*\). Run `dvc repro` again"),
    ],
    ids=str,
)
def test_what_is_wrong_with_google_cloud_storage_is_one_sentence(
    google: GoogleStore,
    change: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    google.refused = int(change.pop("refused", 0))
    if change.pop("away", None):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    Path("raw").mkdir()
    with pytest.raises(BiopsyError, match=f"^data.local.csv: .*{words}"):
        fill(on_google(**change), Path("raw"), Path("downloads"))
    assert not [each for each in caplog.records if each.name == "gcsfs"]  # a terminal would show its tracebacks
