"""The MovieLens formats on tiny made-up files, and the published counts on the real ones."""

import zipfile

import pytest

from marquee.data.dataset import Paths
from marquee.data.interactions.movielens import MovieLens1M, MovieLens100K, MovieLensLatestSmall
from marquee.data.interactions.predefined import Files
from marquee.data.interactions.splits import LeaveOneOut, Ratio
from marquee.data.interactions.timelines import GlobalTime
from marquee.data.sources import Archive, RawFile
from marquee.errors import ConfigError, DataError

FLAGS = ["0"] * 19
CRIME_DRAMA = "|".join("1" if i in (6, 8) else "0" for i in range(19))
NO_GENRE = "|".join(FLAGS)

ML_100K = {
    "u.data": "1\t10\t5\t881250949\n1\t20\t3\t881250900\n1\t30\t4\t881251000\n2\t10\t1\t881250949\n",
    "u.item": f"10|Heat (1995)|15-Dec-1995||http://x|{CRIME_DRAMA}\n20|Café (1990)|||http://y|{NO_GENRE}\n"
    f'30|"8 1/2" (1963)|||http://z|{NO_GENRE}\n40|Unseen|||http://u|{NO_GENRE}\n',
    "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
}
ML_1M = {
    "ratings.dat": "1::10::5::978300760\n1::20::3::978300700\n1::30::4::978300800\n2::10::1::978300760\n",
    "movies.dat": "10::Heat (1995)::Action|Crime\n20::Café (1990)::Drama\n30::Up::Comedy\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1\n",
}
ML_SMALL = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,964982703\n1,20,3.0,964982700\n1,30,0.5,964982800\n",
    "movies.csv": 'movieId,title,genres\n10,Heat (1995),Action|Crime\n20,"Café, The",Drama\n30,Up,Comedy\n',
}


def made_up(kind):
    """The data set as it is, without the sums of the published files."""
    files = {role: RawFile(raw.names) for role, raw in kind.files.items()}
    return type(kind.__name__, (kind,), {"files": files})


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def write(paths, folder, files, encoding="latin-1"):
    (paths.data / folder).mkdir(exist_ok=True)
    for name, text in files.items():
        (paths.data / folder / name).write_bytes(text.encode(encoding))


def ready(kind, paths, split=None, **options):
    data = made_up(kind)(**options)
    data.setup(split or LeaveOneOut(), paths)
    return data


def test_movielens_100k_with_titles_genres_and_users(paths):
    write(paths, "ml-100k", ML_100K)
    data = ready(MovieLens100K, paths)
    assert data.store.item_ids.tolist() == [10, 20, 30]
    assert data.store.items.tolist() == [1, 0, 2, 0]  # user 1 by time, then user 2
    assert data.items["title"].tolist() == ["Heat (1995)", "Café (1990)", '"8 1/2" (1963)']
    assert data.items["genres"].tolist() == ["Crime|Drama", "", ""]
    assert data.users["age"].tolist() == [24, 53] and data.users["zip"].tolist() == ["85711", "T8H1N"]
    assert data.spec.has_timestamps and data.spec.has_values


def test_movielens_1m_as_published(paths):
    write(paths, "ml-1m", ML_1M)
    data = ready(MovieLens1M, paths)
    assert data.store.timestamps.tolist() == [978300700, 978300760, 978300800, 978300760]
    assert data.items["title"].tolist() == ["Heat (1995)", "Café (1990)", "Up"]
    assert data.items["genres"].tolist() == ["Action|Crime", "Drama", "Comedy"]
    assert data.users["zip"].tolist() == ["48067", "70072-1"]


def test_movielens_1m_without_timestamps_refuses_time_and_says_what_to_use(paths):
    short = "".join(line.rsplit("::", 1)[0] + "\n" for line in ML_1M["ratings.dat"].splitlines())
    write(paths, "ml-1m", ML_1M | {"ratings.dat": short})
    assert not ready(MovieLens1M, paths, Ratio()).spec.has_timestamps
    with pytest.raises(ConfigError, match=r"leave_one_out.*split=ratio.*data=sequences"):
        ready(MovieLens1M, paths)
    with pytest.raises(ConfigError, match=r"global_time.*split=ratio"):
        ready(MovieLens1M, paths, GlobalTime())
    with pytest.raises(ConfigError, match=r"data\.ties=random .* no times"):
        ready(MovieLens1M, paths, Ratio(), ties="random")


def test_movielens_latest_small_with_half_stars_and_quoted_titles(paths):
    write(paths, "ml-latest-small", ML_SMALL, encoding="utf-8")
    data = ready(MovieLensLatestSmall, paths)
    assert data.store.values.tolist() == [3.0, 4.5, 0.5]
    assert data.items["title"].tolist() == ["Heat (1995)", "Café, The", "Up"]


def test_ratings_of_the_same_second_keep_the_order_of_the_lines_or_take_a_random_one(paths):
    lines = "".join(f"1\t{100 * second + item}\t3\t{second}\n" for second in (8, 9) for item in range(20))
    write(paths, "ml-100k", ML_100K | {"u.data": lines})
    found = {}
    for ties in ("file", "random"):
        data = ready(MovieLens100K, paths, ties=ties)
        found[ties] = data.store.item_ids[data.store.items].tolist(), data.fingerprint
    in_lines = [100 * second + item for second in (8, 9) for item in range(20)]
    assert found["file"][0] == in_lines
    assert found["random"][0] != in_lines
    assert [item // 100 for item in found["random"][0]] == [8] * 20 + [9] * 20  # time still decides
    assert sorted(found["random"][0]) == in_lines
    assert found["file"][1] != found["random"][1]


def test_the_original_archive_in_the_data_folder_is_enough(paths):
    with zipfile.ZipFile(paths.data / "ml-1m.zip", "w") as archive:
        for name, text in ML_1M.items():
            archive.writestr(f"ml-1m/{name}", text.encode("latin-1"))
    source = Archive("ml-1m.zip", "http://127.0.0.1:9/ml-1m.zip")
    files = {role: RawFile(raw.names, (), source, raw.member) for role, raw in MovieLens1M.files.items()}
    data = type("MovieLens1M", (MovieLens1M,), {"files": files})()
    data.setup(LeaveOneOut(), paths)
    assert len(data.store) == 4


def test_a_truncated_ratings_file_is_refused_by_its_sum(paths):
    write(paths, "ml-1m", ML_1M)
    with pytest.raises(DataError, match=r"ratings\.dat is not the published file: its sha256 is \w+, expected 506d64"):
        MovieLens1M().setup(LeaveOneOut(), paths)


def test_a_malformed_line_is_named(paths):
    write(paths, "ml-1m", ML_1M | {"ratings.dat": ML_1M["ratings.dat"] + "2::20::x::978300761\n"})
    with pytest.raises(DataError, match=r"ratings\.dat, line 5: value is 'x', not a number"):
        ready(MovieLens1M, paths)
    write(paths, "ml-1m", ML_1M | {"ratings.dat": ML_1M["ratings.dat"] + "2::20::4\n"})
    with pytest.raises(DataError, match=r"ratings\.dat, line 5: 3 fields, expected 4 \(separator '::'\)"):
        ready(MovieLens1M, paths)


@pytest.mark.real_data
def test_movielens_100k_has_the_published_counts(real_data, tmp_path):
    data = MovieLens100K()
    data.setup(Ratio(), Paths(real_data, tmp_path))
    assert (len(data.store), data.store.n_users, data.store.n_items) == (100_000, 943, 1_682)
    assert data.items["title"][0] == "Toy Story (1995)"
    assert data.fingerprint.startswith("e291bf85359c9719")  # as before it had `ties`: runs of then are still compared
    data.setup(
        Files(train="ml-100k/ua.base.gz", test="ml-100k/ua.test.gz", validation_share=0), Paths(real_data, tmp_path)
    )
    assert (len(data.parts["train"]), len(data.parts["test"])) == (90_570, 9_430)
    assert set(data.parts["test"].offsets[1:] - data.parts["test"].offsets[:-1]) == {10}


@pytest.mark.real_data
def test_movielens_1m_has_the_published_counts(real_data, tmp_path):
    data = MovieLens1M()
    data.setup(Files(labels="ml-1m/infae_split.npz"), Paths(real_data, tmp_path))
    assert (len(data.store), data.store.n_users, data.store.n_items) == (1_000_209, 6_040, 3_706)
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [791_718, 99_692, 108_799]
    stars = [int((data.store.values == rating).sum()) for rating in range(1, 6)]
    assert stars == [56_174, 107_557, 261_197, 348_971, 226_310]
