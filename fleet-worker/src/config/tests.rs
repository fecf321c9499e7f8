use fleet_core::nats::{Auth, Key};

use super::*;

fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.toml");
    std::fs::write(&file, text).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    Config::load(Some(&file), owned(env).into_iter(), &owned(flags))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[path = "../../../fuzz/src/worker_config.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod fuzzed;

#[test]
fn the_corpus_of_worker_config_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/worker_config");
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    seeds.iter().for_each(|seed| fuzzed::check(&std::fs::read(seed).unwrap()));
    assert!(seeds.len() >= 5);
}

#[track_caller]
fn refused(text: &str, env: &[(&str, &str)], expected: &[&str]) {
    let said = load(text, env, &[]).unwrap_err();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for part in expected {
        assert!(said.iter().any(|s| s.starts_with(part)), "{part} is missing in {said:#?}");
    }
    assert!(said.iter().all(|s| !s.contains('\n')), "{said:#?}");
}

fn cells(config: &Config) -> Vec<&str> {
    config.cells.iter().map(CellId::as_str).collect()
}

#[test]
fn one_cell_or_several_and_the_later_layer_says_which() {
    let several = "cells = [\"0\", \"west-2\"]";
    let config = load(several, &[], &[]).unwrap();
    assert_eq!(cells(&config), ["0", "west-2"]);
    assert!(config.shown().starts_with("cells = [\"0\", \"west-2\"]\n"), "{}", config.shown());
    assert_eq!(cells(&load(config.shown(), &[], &[]).unwrap()), ["0", "west-2"]);
    let said = config.one_cell().unwrap_err().to_string();
    assert_eq!(said, "cells: this needs one of 0, west-2: name it with --cell");
    let config = load(several, &[("FLEET_CELL", "9")], &[]).unwrap();
    assert_eq!((cells(&config), config.one_cell().is_ok()), (vec!["9"], true));
    assert!(!config.shown().contains("cells"), "{}", config.shown());
    assert_eq!(cells(&load("cell = \"9\"", &[("FLEET_CELLS", "0, 1")], &[]).unwrap()), ["0", "1"]);
    assert_eq!(cells(&load(several, &[("FLEET_CELLS", "3,4")], &[("cell", "5")]).unwrap()), ["5"]);
}

#[test]
fn cells_that_cannot_be_meant_are_refused() {
    refused("cell = \"0\"\ncells = [\"1\"]", &[], &["cell: only one of cell and cells can be set"]);
    refused("", &[("FLEET_CELL", "0"), ("FLEET_CELLS", "1")], &["cell: only one of cell and cells"]);
    refused("cells = [\"0\", \"1\", \"0\"]", &[], &["cells: \"0\" is named twice"]);
    refused("cells = []", &[], &["cells: is an empty list"]);
    refused("cells = \"0,1\"", &[], &["cells: \"0,1\" must be a list such as"]);
    refused("cells = [\"0,1\"]", &[], &["cells: \"0,1\" must have a character and no comma"]);
    refused("cells = [0, 1]", &[], &["cells: 0 must be text in quotes"]);
    refused("", &[("FLEET_CELLS", "0,a b,")], &["cells: cell \"a b\" must be", "cells: cell \"\" must be"]);
    refused("", &[("FLEET_CELLS", "")], &["cells: is empty"]);
    refused("", &[("FLEET_CELL", "")], &["cell: cell \"\" must be"]);
    refused(
        "cells = [\"0\", \"1\"]\n[worker]\nmax_vehicles = 1",
        &[],
        &["worker.max_vehicles: 1 is less than the number of cells, 2"],
    );
    refused("[worker]\nlanes = 0", &[], &["worker.lanes: 0 is not between 1 and 1024"]);
}

#[test]
fn nothing_at_all_is_the_default() {
    let config = Config::load(None, std::iter::empty(), &[]).unwrap();
    assert_eq!(cells(&config), ["0"]);
    assert_eq!(config.schema, Schema::default());
    assert_eq!(config.nats.url.expose(), "nats://127.0.0.1:4222");
    assert_eq!(config.nats.login, Auth::None);
    assert_eq!(config.admin, Some("127.0.0.1:9600".parse().unwrap()));
    assert!(config.timescale.is_none());
    assert!(config.need_timescale().unwrap_err().to_string().starts_with("sink.timescale.url: is missing"));
    // What fleet-core would do by itself.
    let same =
        |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| assert_eq!(format!("{a:?}"), format!("{b:?}"));
    let [all] = &config.shares(1)[..] else { panic!("one core has one lane") };
    same(&config.pipeline_options(all), &PipelineOptions::default());
    same(&config.source_options(), &SourceOptions::default());
    same(&config.stream_options(), &StreamOptions::default());
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let config = load("cell = \"a\"\n[nats]\nmax_bytes = 2097152\n", &[], &[]).unwrap();
    let again = load(config.shown(), &[], &[]).unwrap();
    assert_eq!(again.shown(), config.shown());
    assert_eq!(again.schema, config.schema);
    assert_eq!(again.nats.max_bytes, 2 << 20);
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let text =
        "cell = \"file\"\ninterval = \"5s\"\n[worker]\nbatch_rows = 5\n[admin]\nlisten = \"127.0.0.1:1\"";
    let env = [
        ("FLEET_CELL", "env"),
        ("FLEET_INTERVAL", "2s"),
        ("FLEET_WORKER__BATCH_ROWS", "7"),
        ("FLEET_ADMIN__LISTEN", ""),
        ("FLEET_NATS__URL", "nats://e:1"),
    ];
    let config = load(text, &env, &[("cell", "flag")]).unwrap();
    assert_eq!(cells(&config), ["flag"]);
    assert_eq!(config.schema.interval(), 2_000_000);
    assert_eq!(config.worker.batch_rows, 7);
    assert_eq!(config.admin, None);
    assert_eq!(config.nats.url.expose(), "nats://e:1");
}

#[test]
fn the_page_is_off_unless_it_is_asked_for() {
    let page = |text: &str, env: &[(&str, &str)]| load(text, env, &[]).unwrap().page;
    assert!(!page("", &[]));
    assert!(page("[admin]\npage = true", &[]));
    assert!(!page("[admin]\npage = true", &[("FLEET_ADMIN__PAGE", "false")]));
    refused("[admin]\npage = \"true\"", &[], &["admin.page: \"true\" is neither true nor false"]);
    refused("", &[("FLEET_ADMIN__PAGE", "yes")], &["admin.page: \"yes\" is neither true nor false (from"]);
    refused("[admin]\npage = true\nlisten = \"\"", &[], &["admin.page: is true, but without admin.listen"]);
}

#[test]
fn variables_of_others_are_left_alone_and_misspelt_ones_are_not() {
    let env = [("FLEET_WORKER_PORT", "tcp://10.0.0.1:80"), ("FLEET_NATS", "x"), ("PATH", "/")];
    assert!(load("", &env, &[]).is_ok());
    refused("", &[("FLEET_NATS__ULR", "x")], &["FLEET_NATS__ULR: is no key of the configuration"]);
}

#[test]
fn a_problem_names_its_variable_or_the_command_line() {
    refused(
        "",
        &[("FLEET_NATS__REPLICAS", "three")],
        &["nats.replicas: \"three\" is not a whole number (from FLEET_NATS__REPLICAS)"],
    );
    refused("", &[("FLEET_WINDOW", "soon")], &["window: \"soon\" is not a duration"]);
    let said = load("", &[], &[("log.level", "loud")]).unwrap_err();
    assert!(said[0].ends_with("(from the command line)"), "{said:?}");
}

#[test]
fn all_problems_come_at_once_with_path_and_value() {
    let text = r#"
        cell = "a b"
        interval = 10
        window = "1y"
        colour = "red"
        [nats]
        replicas = 9
        max_age = "6 parsecs"
        max_bytes = "20 Gib"
        passwort = "hunter2"
        ca_file = "/nowhere.pem"
        [worker]
        batch_rows = 100
        max_waiting_rows = 10
        ack_wait = "0s"
        max_vehicles = "10"
        [worker.more]
        x = 1
        [admin]
        listen = "9600"
        [log]
        format = "xml"
        level = "loud"
        [sink]
        timescale = 5
    "#;
    refused(
        text,
        &[],
        &[
            "cell: cell \"a b\" must be",
            "interval: 10 must be text in quotes",
            "window: \"1y\" is not a duration",
            "colour: is no key",
            "nats.replicas: 9 is not between 1 and 5",
            "nats.max_age: \"6 parsecs\" is not a duration",
            "nats.max_bytes: \"20 Gib\" is not a size",
            "nats.passwort: is no key",
            "nats.ca_file: /nowhere.pem can't be read",
            "worker.max_waiting_rows: 10 is less than worker.batch_rows, 100",
            "worker.ack_wait: \"0s\" is not between 1s and 1h",
            "worker.max_vehicles: \"10\" is not a whole number",
            "worker.more: is no key",
            "admin.listen: \"9600\" is not an address",
            "log.format: \"xml\" is none of auto text json",
            "log.level: \"loud\" is none of",
            "sink.timescale: must be a table",
        ],
    );
}

#[test]
fn signals_are_checked_to_the_last_key() {
    let text = r#"
        window = "soon"
        [[signal]]
        name = "speed"
        colums = 1
        columns = [{ name = "v", unit = "km/h", min = 0, max = 9, tpye = "real" }]
        interpolation = "linear"
        [[signal]]
        name = 5
        columns = [{ name = "w", unit = "x", min = 0, max = 9 }]
        interpolation = "linear"
    "#;
    refused(
        text,
        &[],
        &[
            "window: \"soon\"",
            "signal[0].colums: is no key",
            "signal[0].columns[0].tpye: is no key",
            "signal[1].name: invalid type",
        ],
    );
    let unknown = r#"
        [[signal]]
        name = "speed"
        columns = [{ name = "v", unit = "km/h", min = 0, max = 9 }]
        interpolation = "cubic"
        [[signal]]
        columns = [{ name = "w", unit = "x", min = 0 }]
    "#;
    refused(
        unknown,
        &[],
        &[
            "signal[1].name: is missing",
            "signal[1].interpolation: is missing",
            "signal[1].columns[0].max: is missing",
            "signal[0].interpolation: \"cubic\" of signal \"speed\" is none of",
        ],
    );
    refused(
        unknown.split("[[signal]]\n        columns").next().unwrap(),
        &[],
        &["signal[0].interpolation: \"cubic\" of signal \"speed\" is none of"],
    );
}

#[test]
fn syntax_errors_have_line_and_column() {
    let said = load("cell = \"0\"\n[nats\n", &[], &[]).unwrap_err();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("fleet.toml:2:"), "{said:?}");
    let missing = Config::load(Some(Path::new("/nowhere.toml")), std::iter::empty(), &[]).unwrap_err();
    assert!(missing[0].to_string().starts_with("/nowhere.toml: can't be read"), "{missing:?}");
}

#[test]
fn secrets_come_from_files_and_are_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "sesame\n").unwrap();
    let path = secret.to_str().unwrap();
    let text = format!(
        "[nats]\nuser = \"u\"\npassword_file = \"{path}\"\n[sink.timescale]\n\
         url = \"postgres://u@h/d?sslmode=disable\"\npassword_file = \"{path}\"\n"
    );
    let config = load(&text, &[], &[]).unwrap();
    let password = Key::File(secret.clone());
    assert_eq!(config.nats.login, Auth::Password { user: "u".to_owned(), password });
    let url = config.timescale.as_ref().unwrap().url.expose();
    assert_eq!(url, "postgres://u:sesame@h/d?sslmode=disable");
    assert!(!format!("{config:?} {config:#?} {}", config.shown()).contains("sesame"));
    let direct = "[nats]\nurl = \"nats://u:sesame@h\"\ntoken = \"sesame\"";
    let config = load(direct, &[], &[]).unwrap();
    assert!(!format!("{config:?} {}", config.shown()).contains("sesame"));
    assert!(config.shown().contains("token = \"***\""));
    for bad in [
        "[nats]\nurl = \"http://u:sesame@h\"",
        "[nats]\nurl = \"nats://u:sesame\"",
        "[nats]\npassword = [\"sesame\"]",
        "[sink.timescale]\nurl = \"postgres://u:open/sesame\"",
        "[sink.timescale]\nurl = \"mysql://u:sesame@h/d\"",
    ] {
        let said = load(bad, &[], &[]).unwrap_err().join("\n");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn a_key_without_a_name_is_shown_in_quotes() {
    refused("\"\" = 1\n[nats]\n'' = 1", &[], &["\"\": is no key", "nats.\"\": is no key"]);
}

#[test]
fn a_server_is_an_address_and_no_more() {
    for url in ["h", "h:1", "nats://h:1/", "tls://u:p@h, nats://[::1]:4222"] {
        load(&format!("[nats]\nurl = \"{url}\""), &[], &[]).unwrap();
    }
    for url in [
        "nats://u:p@h:1,i",
        "nats:/9a:1,n/t@s:a/b:2",
        "nats://h/path",
        "nats://h?a=b",
        "nats://h#a",
        "h,",
        "",
        "nats://",
    ] {
        refused(&format!("[nats]\nurl = \"{url}\""), &[], &["nats.url: "]);
    }
}

#[test]
fn one_login_of_the_latest_layer() {
    refused("[nats]\nuser = \"u\"", &[], &["nats.user: \"u\" has neither"]);
    refused("[nats]\npassword = \"p\"", &[], &["nats.password: is set without nats.user"]);
    refused("[nats]\ntoken = \"t\"\nuser = \"u\"\npassword = \"p\"", &[], &["nats.user: only one of"]);
    let config =
        load("[nats]\ntoken = \"a\"", &[("FLEET_NATS__USER", "u"), ("FLEET_NATS__PASSWORD", "p")], &[]);
    assert!(matches!(config.unwrap().nats.login, Auth::Password { .. }));
    let both = [("sink.timescale.url", "postgres://h/d?sslmode=disable")];
    let config = load("[sink.timescale]\nurl_file = \"/nowhere\"", &[], &both).unwrap();
    assert!(config.timescale.is_some());
    let shared = "[sink.timescale]\nca_file = \"/nowhere\"\nexpected_vehicles = 5";
    assert!(load(shared, &[], &[]).unwrap().timescale.is_none());
}

#[test]
fn a_reader_is_a_name() {
    let with = |name: &str| format!("[sink.timescale]\nurl = \"postgres://h/d\"\nreader = \"{name}\"");
    let config = load(&with("grafana-ro"), &[], &[]).unwrap();
    assert_eq!(config.timescale.unwrap().reader.as_deref(), Some("grafana-ro"));
    assert_eq!(load(&with(""), &[], &[]).unwrap().timescale.unwrap().reader, None);
    for bad in ["1st", "a b", "a'; drop table telemetry", &"a".repeat(64)] {
        refused(&with(bad), &[], &["sink.timescale.reader: "]);
    }
}

#[test]
fn retention_outlasts_every_catch_up() {
    assert_eq!(load("", &[], &[]).unwrap().retention, None);
    let kept = load("retention = \"400d\"", &[], &[]).unwrap().retention;
    assert_eq!(kept, Some(Duration::from_secs(400 * 86_400)));
    refused("retention = \"23h\"", &[], &["retention: \"23h\" is not between"]);
    let long = "retention = \"3d\"\n[nats]\nmax_age = \"40h\"";
    refused(long, &[], &["retention: \"3d\" is less than twice nats.max_age"]);
}

#[test]
fn a_signals_own_times_are_shown_and_loaded_again() {
    let signal = "[[signal]]\nname = \"rpm\"\ninterpolation = \"linear\"\nsampling_period = \"50ms\"\n\
        signal_timeout = \"0s\"\ncolumns = [{ name = \"rpm\", unit = \"1/min\", min = 0, max = 9000 }]\n";
    let config = load(signal, &[], &[]).unwrap();
    let [rpm] = config.schema.signals() else { panic!("one signal") };
    assert_eq!((rpm.sampling_period, rpm.signal_timeout), (Some(50_000), 0));
    assert_eq!(load(config.shown(), &[], &[]).unwrap().schema, config.schema);
    let long = signal.replace("0s", "2h");
    refused(&long, &[], &["signal[0].signal_timeout: \"2h\" is not between 0s and 1h"]);
}

#[test]
fn no_sample_is_taken_that_retention_would_drop() {
    let days = |text: &str| {
        let config = load(text, &[], &[]).unwrap();
        let again = load(config.shown(), &[], &[]).unwrap();
        assert_eq!(again.schema, config.schema, "as it is shown");
        config.schema.max_past() / (24 * 60 * fleet_core::time::MINUTE)
    };
    assert_eq!((days(""), days("retention = \"400d\""), days("retention = \"3d\"")), (7, 7, 3));
    assert_eq!(days("max_past = \"30d\""), 30);
    assert_eq!(days("max_past = \"2d\"\nretention = \"3d\""), 2);
    refused(
        "max_past = \"4d\"\nretention = \"3d\"",
        &[],
        &["max_past: \"4d\" is longer than retention, \"3d\""],
    );
    refused("max_past = \"soon\"\nretention = \"3d\"", &[], &["max_past: \"soon\" is not a duration"]);
    refused("retention = \"1h\"", &[], &["retention: \"1h\" is not between"]);
}

#[test]
fn retention_bounds_dead_letters_too() {
    let days =
        |text: &str| load(text, &[], &[]).unwrap().stream_options().dead_letters_max_age.as_secs() / 86_400;
    assert_eq!((days(""), days("retention = \"400d\""), days("retention = \"3d\"")), (7, 7, 3));
}

#[test]
fn a_bucket_needs_its_keys_and_shows_none() {
    let bucket = "[sink.parquet]\nurl = \"s3://archive/fleet\"\nendpoint = \"http://127.0.0.1:9000\"\n";
    refused(
        bucket,
        &[],
        &["sink.parquet.access_key_id: is missing", "sink.parquet.secret_access_key: is missing"],
    );
    let keys = [
        ("FLEET_SINK__PARQUET__ACCESS_KEY_ID", "AKIA1"),
        ("FLEET_SINK__PARQUET__SECRET_ACCESS_KEY", "sesame"),
    ];
    let config = load(bucket, &keys, &[]).unwrap();
    let Some(ArchivePlace::Bucket(found)) = config.parquet.as_ref().map(|parquet| &parquet.place) else {
        panic!("no bucket: {config:?}")
    };
    assert_eq!((found.region.as_str(), found.secret_access_key.expose()), ("us-east-1", "sesame"));
    let shown = format!("{config:?} {}", config.shown());
    assert!(!shown.contains("sesame") && !shown.contains("AKIA1"), "{shown}");

    let place = |named: &str| archive_place(&config, named);
    assert_eq!(place(""), Ok(ArchivePlace::Bucket(found.clone())));
    assert_eq!(place("some/folder"), Ok(ArchivePlace::Folder("some/folder".into())));
    let other = BucketConfig { url: "s3://other".to_owned(), ..found.clone() };
    assert_eq!(place("s3://other"), Ok(ArchivePlace::Bucket(other)));
    let none = load("", &[], &[]).unwrap();
    assert!(archive_place(&none, "").is_err() && archive_place(&none, "s3://other").is_err());

    refused(
        &bucket.replace("s3://archive/fleet", "https://archive"),
        &keys,
        &["sink.parquet.url: \"https://archive\" is not a URL"],
    );
    refused(
        &bucket.replace("127.0.0.1:9000", "user:sesame@h/x"),
        &keys,
        &["sink.parquet.endpoint: \"http://***@h/x\" is not"],
    );
    refused(&format!("{bucket}path = \"archive\"\n"), &keys, &["sink.parquet.path: only one of"]);
}

#[test]
fn what_is_wrong_with_a_signal_is_said_whatever_else_is() {
    let text = r#"
        interval = "10"
        [[signal]]
        name = "speed"
        unit = "km/h"
        interpolation = "linear"
        [[signal]]
        name = "fuel"
        interpolation = "cubic"
        max_gap = "2d"
        columns = [{ name = "fuel_l", unit = "l", min = 0, max = 100 }]
        [worker]
        ack_wait = "2h"
    "#;
    let expected = [
        "interval: \"10\" is not a duration such as \"10s\": it has no unit",
        "signal[0].unit: is no key",
        "signal[0].columns: is missing",
        "signal[1].interpolation: \"cubic\" of signal \"fuel\" is none of great_circle, linear,",
        "signal[1].max_gap: \"2d\" is not between 1ms and 1d",
        "worker.ack_wait: \"2h\" is not between 1s and 1h",
    ];
    refused(text, &[], &expected);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let said = Config::load_for(Needs::Database, Some(file.path()), std::iter::empty(), &[]).unwrap_err();
    assert_eq!(said.len(), expected.len() + 1, "{said:#?}");
    assert!(said.iter().any(|problem| problem.path == "sink.timescale.url"), "{said:#?}");
}

#[test]
fn rows_leave_the_database_only_for_an_archive_that_is_complete() {
    let with = |kept: &str, archive: &str| {
        format!(
            "retention = \"30d\"\n[sink.timescale]\nurl = \"postgres://h/d\"\nretention = {kept:?}\n\
             [sink.parquet]\n{archive}"
        )
    };
    let complete = "path = \"a\"\nwhen_down = \"hold\"";
    let config = load(&with("3d", complete), &[], &[]).unwrap();
    let timescale = config.timescale.unwrap();
    assert_eq!(timescale.retention, Some(Duration::from_secs(3 * 86_400)));
    let setup = timescale.setup_options(config.nats.max_age, config.retention);
    assert_eq!(setup.retire_after, timescale.retention);
    let said = |kept, archive: &str, expected: &[&str]| refused(&with(kept, archive), &[], expected);
    said("3d", "", &["sink.timescale.retention: \"3d\" needs an archive: set sink.parquet.path or"]);
    said("3d", "path = \"a\"", &["sink.timescale.retention: \"3d\" needs sink.parquet.when_down = \"hold\""]);
    said("30d", complete, &["sink.timescale.retention: \"30d\" is not less than retention, \"30d\""]);
    said("1d", complete, &["sink.timescale.retention: \"1d\" is not between 2d and"]);
    let long = format!("{}\n[nats]\nmax_age = \"36h\"", with("2d", complete));
    refused(&long, &[], &["sink.timescale.retention: \"2d\" is less than twice nats.max_age"]);
}
