//! The program `align` as its users meet it, and `own_method`, which does the same with a method of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const HEADER: &str = "vehicle,signal,ts_ms,value,value2\n";

/// Cargo builds examples with the tests, beside the folder that this test is in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(program.is_file(), "`cargo build --workspace --example {name}` makes {}", program.display());
    program
}

fn align(arguments: &[&str]) -> Output {
    Command::new(program("align")).args(arguments).output().unwrap()
}

/// A folder with `in.csv`.
struct Folder(TempDir);

impl Folder {
    fn with(lines: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("in.csv", &format!("{HEADER}{lines}"));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Runs the program on it; its exit code and what it told.
    fn aligned(&self, output: &str) -> (Option<i32>, String) {
        ended(&align(&[&self.path("in.csv"), &self.path(output)]))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_says_how_it_is_called() {
    let output = align(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"usage: align [--config FILE] INPUT OUTPUT\n");
    for wrong in [&[][..], &["in.csv"], &["--what", "out.csv"], &["--config", "a.toml", "in.csv"]] {
        let (code, told) = ended(&align(wrong));
        assert_eq!((code, told.as_str()), (Some(1), "usage: align [--config FILE] INPUT OUTPUT\n"));
    }
}

#[test]
fn a_file_of_samples_becomes_a_file_of_records() {
    let folder = Folder::with("A,speed,1700000005000,50,\nA,speed,1700000015000,60,\n");
    let (code, told) = folder.aligned("out.csv");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("2 samples of 1 vehicles became 1 records in "), "{told}");
    let columns = "latitude,longitude,speed_kmh,fuel_level_pct,brake_fluid_temp_c";
    let records = format!("vehicle,ts_ms,{columns},quality\nA,1700000010000,,,55,,,8\n");
    assert_eq!(folder.read("out.csv"), records);

    folder.write("fleet.toml", "interval = \"5s\"\n");
    let (config, input, output) = (folder.path("fleet.toml"), folder.path("in.csv"), folder.path("out.csv"));
    let (code, told) = ended(&align(&["--config", &config, &input, &output]));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(folder.read("out.csv").lines().count(), 4, "{}", folder.read("out.csv"));
}

#[test]
fn a_late_line_is_told_and_ends_it_well() {
    let folder = Folder::with(
        "A,speed,1700000005000,50,\nA,speed,1700000075000,60,\nA,speed,1700000006000,60,\n\
         A,speed,1700000075000,60,\n",
    );
    let (code, told) = folder.aligned("out.csv");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("line 4: ts_ms 1700000006000 comes later than the window"), "{told}");
    assert!(told.ends_with("; 1 were there twice, 1 too late, 0 lines wrong\n"), "{told}");
}

#[test]
fn a_wrong_line_is_told_by_its_number_and_the_rest_is_used() {
    let folder = Folder::with("A,speed,1700000005000,50,\nA,speed,soon,55,\nA,speed,1700000015000,60,\n");
    let (code, told) = folder.aligned("out.csv");
    assert_eq!(code, Some(65), "{told}");
    assert!(told.starts_with("line 3: ts_ms \"soon\" is no number of milliseconds\n"), "{told}");
    assert!(told.ends_with(" 0 too late, 1 lines wrong\n"), "{told}");
    assert!(folder.read("out.csv").contains("\nA,1700000010000,,,55,,,"));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_no_file() {
    let folder = Folder::with("A,speed,1700000005000,50,\n");
    folder.write("bad.csv", "vehicle,speed\n");
    folder.write("bad.toml", "interval = \"0s\"\n");
    let path = |name: &str| folder.path(name);
    for (arguments, said) in [
        (vec![path("in.csv"), path("out.txt")], "the output must end in .csv or .parquet"),
        (vec![path("none.csv"), path("out.csv")], "No such file"),
        (vec![path("bad.csv"), path("out.csv")], "the header \"vehicle,speed\" is not"),
        (
            vec!["--config".to_owned(), path("bad.toml"), path("in.csv"), path("out.csv")],
            "interval: \"0s\" is not between",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, told) = ended(&align(&arguments));
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        assert!(told.contains(said) && told.lines().count() == 1, "{arguments:?}: {told}");
    }
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 3);
}

#[test]
fn a_method_of_ones_own_gives_records() {
    let output = Command::new(program("own_method")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let values: Vec<_> =
        said.lines().filter_map(|line| line.split_once('[')).map(|(_, values)| values).collect();
    let lowest = [
        "Some(250.0), Some(198.0), Some(239.0), Some(241.0)]",
        "Some(250.0), Some(198.0), Some(240.0), Some(241.0)]",
    ];
    assert_eq!(values, lowest, "{output:?}");
}
