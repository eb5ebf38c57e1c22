//! docs/cli.md shows the help of every command.

use std::fs;
use std::path::Path;

use crate::common::tar2vhd;

/// The help of a command, without blanks at the ends of its lines.
fn help(words: &[&str]) -> String {
    let output = tar2vhd().args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace("\r\n", "\n");
    let lines: Vec<_> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n").replace(".exe", "")
}

/// The subcommands that the help of a command lists.
fn subcommands(words: &[&str]) -> Vec<String> {
    let text = help(words);
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let name = line.strip_prefix("  ")?;
            (!name.starts_with(' ')).then(|| name.split(' ').next().unwrap().to_owned())
        })
        .filter(|name| name != "help")
        .collect()
}

/// The text with each block `$ COMMAND --help` made anew, and the commands that it shows.
fn made_anew(text: &str) -> (String, Vec<String>) {
    let (mut made, mut shown) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("```text\n$ ") {
        let (command, after) = after.split_once(" --help\n").unwrap();
        let (_, behind) = after.split_once("\n```").unwrap();
        let words: Vec<_> = command.split(' ').skip(1).collect();
        made.push_str(&format!(
            "{before}```text\n$ {command} --help\n{}\n```",
            help(&words)
        ));
        shown.push(words.join(" "));
        rest = behind;
    }
    made.push_str(rest);
    (made, shown)
}

#[test]
fn the_reference_shows_the_help_of_every_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let text = fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    let (made, mut shown) = made_anew(&text);
    if std::env::var_os("TAR2VHD_UPDATE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    } else {
        let old = text.lines().zip(made.lines()).find(|(old, new)| old != new);
        assert!(made == text, "docs/cli.md is old: {old:?}");
    }
    let mut all = Vec::new();
    for command in subcommands(&[]) {
        let below = subcommands(&[&command]);
        match below.is_empty() {
            true => all.push(command),
            false => all.extend(below.iter().map(|name| format!("{command} {name}"))),
        }
    }
    all.sort();
    shown.sort();
    assert_eq!(shown, all);
}
