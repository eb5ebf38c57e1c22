//! `tar2vhd man`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::args::Args;
use crate::failure::Failure;
use crate::output;

/// Prints the page of a command, or writes those of all commands to a directory.
pub(crate) fn run(command: &[String], directory: Option<&Path>) -> Result<(), Failure> {
    let mut all = Args::command().disable_help_subcommand(true);
    // Gives the commands their full names.
    all.build();
    if let Some(directory) = directory {
        fs::create_dir_all(directory).map_err(|e| unwritable(directory, &e))?;
        return write_all(&all, directory);
    }
    // One word with a space is as good as two.
    let words = command.iter().flat_map(|word| word.split_whitespace());
    let mut found = &all;
    for word in words {
        found = found.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format!("there is no command '{}'", command.join(" ")))
        })?;
    }
    output::stdout(&page(found)?)
}

fn write_all(command: &Command, directory: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, page(command)?).map_err(|e| unwritable(&path, &e))?;
    let mut commands = command.get_subcommands();
    commands.try_for_each(|command| write_all(command, directory))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!(
        "cannot write {}: {error}",
        tar2vhd::display_file(path)
    ))
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    render(command, &mut page)
        .map_err(|e| Failure::error(format!("cannot make the manual page: {e}")))?;
    Ok(page)
}

/// All that clap_mangen renders, with another synopsis: its own has no values.
fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone())
        .source(concat!("tar2vhd ", env!("CARGO_PKG_VERSION")))
        .manual("tar2vhd manual");
    man.render_title(page)?;
    man.render_name_section(page)?;
    synopsis(command).to_writer(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(page)?;
    }
    page.flush()
}

fn synopsis(command: &Command) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    let required = |arg: &&Arg| arg.is_required_set();
    for arg in shown().filter(|arg| !arg.is_positional() && !arg.is_required_set()) {
        line.push(roman(" ["));
        line.extend(option(arg));
        line.push(roman("]"));
    }
    for arg in shown().filter(|arg| !arg.is_positional()).filter(required) {
        line.push(roman(" "));
        line.extend(option(arg));
    }
    for arg in shown().filter(|arg| arg.is_positional()) {
        let more = match arg.get_action() {
            ArgAction::Append => " ...",
            _ => "",
        };
        let (open, close) = match arg.is_required_set() {
            true => (" ", String::new()),
            false => (" [", "]".to_owned()),
        };
        line.push(roman(open));
        line.extend(values(arg));
        line.push(roman(more.to_owned() + &close));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(line);
    roff
}

/// Its names with the value that it takes.
fn option(arg: &Arg) -> Vec<Inline> {
    let short = arg.get_short().map(|short| bold(format!("-{short}")));
    let long = arg.get_long().map(|long| bold(format!("--{long}")));
    let mut text: Vec<_> = short.into_iter().collect();
    if !text.is_empty() && long.is_some() {
        text.push(roman("|"));
    }
    text.extend(long);
    if arg.get_action().takes_values() {
        text.push(roman(" "));
        text.extend(values(arg));
    }
    text
}

fn values(arg: &Arg) -> Vec<Inline> {
    let names = arg.get_value_names().unwrap_or_default();
    match names {
        [] => vec![italic(arg.get_id().as_str().to_uppercase())],
        names => {
            let words: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            vec![italic(words.join(" "))]
        }
    }
}
