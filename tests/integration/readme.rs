//! The first screen of `README.md`: its commands are run as they stand there, and answer what stands there.

use std::path::Path;
use std::process::Command;

use crate::support::program::Settings;

const SECTION: &str = "## Buy something\n";
/// Starts the program; here it runs already.
const START: &str = "cargo run --release";
const PLACE: &str = "http://127.0.0.1:8080";
/// `2026-11-23T23:02:55.830743Z`: what may stand in each place, 0 being any digit.
const TIME: &[u8] = b"0000-00-00T00:00:00.000000Z";

/// The commands, and the answers to them: each block of commands has a block of answers below it, line by line.
fn commands_and_answers(readme: &str) -> (Vec<&str>, Vec<String>) {
    let (_, section) = readme.split_once(SECTION).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let (mut commands, mut answers) = (Vec::new(), Vec::new());
    for block in section.split("```").skip(1).step_by(2) {
        match block.split_once('\n').expect("a line end after the language") {
            ("json", lines) => {
                answers.extend(lines.lines().map(str::to_owned));
                assert_eq!(answers.len(), commands.len(), "a command without its answer: {commands:?}");
            }
            (_, lines) => commands.extend(lines.lines().filter(|line| *line != START)),
        }
    }
    (commands, answers)
}

/// Times differ from run to run: the first becomes `time-1`, and the same one later, too.
fn without_times(lines: &[String]) -> Vec<String> {
    let mut times: Vec<String> = Vec::new();
    let is_time = |text: &[u8]| {
        text.iter().zip(TIME).all(|(one, form)| if *form == b'0' { one.is_ascii_digit() } else { one == form })
    };
    for line in lines {
        for text in line.as_bytes().windows(TIME.len()).filter(|text| is_time(text)) {
            let time = String::from_utf8(text.to_vec()).expect("ASCII");
            if !times.contains(&time) {
                times.push(time);
            }
        }
    }
    let named = |line: &String| {
        times.iter().zip(1..).fold(line.clone(), |line, (time, number)| line.replace(time, &format!("time-{number}")))
    };
    lines.iter().map(named).collect()
}

#[test]
fn the_first_screen_is_what_one_sees() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let program = Settings::new().start();
    let (commands, shown) = commands_and_answers(&readme);
    assert_eq!((commands.len(), shown.len()), (5, 5), "the first screen has more steps, or fewer");
    let answer = |command: &&str| {
        assert!(command.contains(PLACE), "not of this program: {command}");
        let command = command.replace(PLACE, program.url());
        let output = Command::new("bash").args(["-c", &command]).current_dir(program.folder()).output();
        let output = output.expect("bash is there");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let seen: Vec<String> = commands.iter().map(answer).collect();
    assert_eq!(without_times(&seen), without_times(&shown));
}

#[test]
fn times_are_told_apart_by_their_order_only() {
    let line = |one: u8, other: u8| {
        format!("a 2026-11-23T23:02:55.{one:06}Z b 2026-11-23T23:02:55.{one:06}Z c 2026-11-23T23:02:55.{other:06}Z")
    };
    assert_eq!(without_times(&[line(1, 2)]), ["a time-1 b time-1 c time-2"]);
    assert_ne!(without_times(&[line(1, 2)]), without_times(&[line(1, 1)]));
}
