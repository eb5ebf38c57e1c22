//! Flags as Go's package flag has them: one dash or two, a value after `=` or as the next
//! argument, none behind the first argument that is no flag.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_lex::OsStrExt;

/// A flag that there is.
pub(super) struct Flag {
    name: &'static str,
    takes_value: bool,
}

impl Flag {
    pub(super) const fn value(name: &'static str) -> Self {
        Self {
            name,
            takes_value: true,
        }
    }

    pub(super) const fn switch(name: &'static str) -> Self {
        Self {
            name,
            takes_value: false,
        }
    }
}

/// The flags that were given.
#[derive(Debug, Default)]
pub(super) struct Parsed(BTreeMap<&'static str, OsString>);

impl Parsed {
    /// The value of a flag; the last one counts.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// The same as a path; an empty one is none.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    }

    /// Whether a switch is on.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "true")
    }
}

/// The flags are not to be acted upon.
#[derive(Debug)]
pub(super) enum Refused {
    /// Help was asked for.
    Help,
    /// The message says why.
    Wrong(String),
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

/// Takes the flags in front of the arguments.
pub(super) fn parse(
    arguments: &mut VecDeque<OsString>,
    known: &'static [Flag],
) -> Result<Parsed, Refused> {
    let mut parsed = Parsed::default();
    while let Some(argument) = arguments.front() {
        let Some(rest) = argument.strip_prefix("-").filter(|rest| !rest.is_empty()) else {
            break;
        };
        let argument = argument.clone();
        let rest = rest.strip_prefix("-").unwrap_or(rest).to_owned();
        arguments.pop_front();
        if argument == "--" {
            break;
        }
        let (name, value) = match rest.split_once("=") {
            None => (rest.as_os_str(), None),
            Some((name, value)) => (name, Some(value.to_owned())),
        };
        if name.is_empty() || name.starts_with("-") {
            return Err(format!("bad flag syntax: {}", argument.display()).into());
        }
        let Some(flag) = known.iter().find(|flag| name == flag.name) else {
            if name == "help" || name == "h" {
                return Err(Refused::Help);
            }
            let name = name.display();
            return Err(format!("flag provided but not defined: -{name}").into());
        };
        let name = flag.name;
        let value = match (flag.takes_value, value) {
            (true, value) => value
                .or_else(|| arguments.pop_front())
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            (false, None) => "true".into(),
            (false, Some(value)) => match value.to_str() {
                Some("1" | "t" | "T" | "true" | "TRUE" | "True") => "true".into(),
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => "false".into(),
                _ => {
                    let value = value.display();
                    return Err(format!(
                        "invalid boolean value \"{value}\" for -{name}: parse error"
                    )
                    .into());
                }
            },
        };
        parsed.0.insert(name, value);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[Flag::switch("debug"), Flag::value("log")];

    /// The flags and what is left, or the error.
    fn parsed(arguments: &[&str]) -> Result<(bool, Option<String>, Vec<String>), String> {
        let mut arguments = arguments.iter().map(OsString::from).collect();
        let flags = parse(&mut arguments, KNOWN).map_err(|end| match end {
            Refused::Help => "help".to_owned(),
            Refused::Wrong(message) => message,
        })?;
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        Ok((
            flags.is_set("debug"),
            flags.get("log").map(text),
            arguments.iter().map(|left| text(left)).collect(),
        ))
    }

    #[test]
    fn every_spelling_is_understood() {
        let log = || Some("a".to_owned());
        for (arguments, debug, value, left) in [
            (
                &["--debug", "--log", "a", "verb", "--debug"][..],
                true,
                log(),
                &["verb", "--debug"][..],
            ),
            (&["-debug", "-log", "a"], true, log(), &[]),
            (
                &["-debug=false", "--log=a", "--", "-log"],
                false,
                log(),
                &["-log"],
            ),
            (
                &["--debug=1", "--log=b", "--log=a", "-"],
                true,
                log(),
                &["-"],
            ),
            (&["--log=", "verb"], false, Some(String::new()), &["verb"]),
            (
                &["--log", "--debug"],
                false,
                Some("--debug".to_owned()),
                &[],
            ),
            (&["--log=a=b"], false, Some("a=b".to_owned()), &[]),
            (&[], false, None, &[]),
        ] {
            let left: Vec<_> = left.iter().map(|left| (*left).to_owned()).collect();
            assert_eq!(parsed(arguments), Ok((debug, value, left)), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        for (arguments, message) in [
            (&["--colour"][..], "flag provided but not defined: -colour"),
            (&["-colour=red"], "flag provided but not defined: -colour"),
            (&["--log"], "flag needs an argument: -log"),
            (&["---log"], "bad flag syntax: ---log"),
            (&["-=x"], "bad flag syntax: -=x"),
            (
                &["--debug=maybe"],
                "invalid boolean value \"maybe\" for -debug: parse error",
            ),
            (&["--debug", "-h"], "help"),
        ] {
            assert_eq!(parsed(arguments).unwrap_err(), message, "{arguments:?}");
        }
    }
}
