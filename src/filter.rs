//! The filters of containerd's lists: `field==value`, `!=`, `~=` (a regular expression) and
//! presence; selectors of one filter are joined by commas and must all hold, of several
//! filters one must.
//!
//! Source: containerd, pkg/filters, whose grammar in comments this follows.

use regex::Regex;
use tonic::Status;

/// Filters, parsed.
#[derive(Debug)]
pub(crate) struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    /// `None`: an expression that does not compile matches nothing.
    Matches(Option<Regex>),
}

impl Filters {
    /// No filters match everything, and so does an empty one.
    pub(crate) fn parse(filters: &[String]) -> Result<Self, Status> {
        let parsed = filters.iter().map(|text| match &text[..] {
            "" => Ok(Vec::new()),
            text => Parser { text, at: 0 }.selectors(),
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Whether something matches whose fields `field` gives by their path.
    pub(crate) fn match_fields<'a>(&self, field: impl Fn(&[String]) -> Option<&'a str>) -> bool {
        let holds = |selector: &Selector| {
            let value = field(&selector.path);
            let text = value.unwrap_or_default();
            match &selector.test {
                Test::Present => value.is_some(),
                Test::Equal(wanted) => value.is_some_and(|value| value == wanted),
                Test::NotEqual(other) => text != other,
                Test::Matches(regex) => regex.as_ref().is_some_and(|regex| regex.is_match(text)),
            }
        };
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(holds))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn selectors(mut self) -> Result<Vec<Selector>, Status> {
        let mut selectors = vec![self.selector()?];
        loop {
            self.skip_space();
            match self.peek() {
                None => return Ok(selectors),
                Some(',') => {
                    self.bump(',');
                    selectors.push(self.selector()?);
                }
                Some(_) => return Err(self.error("unexpected input")),
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, Status> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.bump('.');
            path.push(self.field()?);
        }
        self.skip_space();
        if matches!(self.peek(), None | Some(',')) {
            let test = Test::Present;
            return Ok(Selector { path, test });
        }
        let operator = self.take_while(|c| matches!(c, '=' | '!' | '~'));
        let test = match &operator[..] {
            "==" => Test::Equal(self.value(false)?),
            "!=" => Test::NotEqual(self.value(false)?),
            "~=" => Test::Matches(Regex::new(&self.value(true)?).ok()),
            "" => return Err(self.error("an operator is expected: ==, != or ~=")),
            _ => return Err(self.error("an unknown operator")),
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, Status> {
        self.skip_space();
        if self.peek() == Some('"') {
            return self.quoted('"');
        }
        let field = self.take_while(|c| c == '_' || c.is_ascii_alphanumeric());
        match field.is_empty() {
            true => Err(self.error("a field is expected")),
            false => Ok(field),
        }
    }

    /// Regular expressions may stand between slashes or bars, too.
    fn value(&mut self, expression: bool) -> Result<String, Status> {
        self.skip_space();
        match self.peek() {
            Some(quote @ '"') => self.quoted(quote),
            Some(quote @ ('/' | '|')) if expression => self.quoted(quote),
            _ => {
                let value = self.take_while(|c| c != ',' && !c.is_whitespace() && !c.is_control());
                match value.is_empty() {
                    true => Err(self.error("a value is expected")),
                    false => Ok(value),
                }
            }
        }
    }

    /// Text between quotes with the escapes of Go strings. Between slashes or bars they
    /// belong to the regular expression, but for the quote's own.
    fn quoted(&mut self, quote: char) -> Result<String, Status> {
        self.bump(quote);
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.error("a quote does not end")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') if quote == '"' => text.push(self.escape()?),
                Some('\\') => match self.next() {
                    Some(c) if c == quote => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return Err(self.error("a quote does not end")),
                },
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Status> {
        let (radix, first, digits) = match self.next() {
            Some('a') => return Ok('\x07'),
            Some('b') => return Ok('\x08'),
            Some('f') => return Ok('\x0c'),
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('v') => return Ok('\x0b'),
            Some(c @ ('\\' | '"')) => return Ok(c),
            Some(c @ '0'..='7') => (8, c.to_digit(8), 2),
            Some('x') => (16, Some(0), 2),
            Some('u') => (16, Some(0), 4),
            Some('U') => (16, Some(0), 8),
            _ => return Err(self.error("an unknown escape")),
        };
        let mut code = first;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(radix));
            code = code
                .zip(digit)
                .and_then(|(code, digit)| code.checked_mul(radix)?.checked_add(digit));
        }
        code.and_then(char::from_u32)
            .ok_or_else(|| self.error("an escape of no character"))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.bump(c);
        Some(c)
    }

    fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += len;
        rest[..len].to_owned()
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn error(&self, what: &str) -> Status {
        Status::invalid_argument(format!(
            "the filter {:?}: {what} at byte {}",
            self.text, self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn parse(filters: &[&str]) -> Result<Filters, Status> {
        let filters: Vec<_> = filters.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&filters)
    }

    fn matched(filters: &[&str]) -> String {
        let things = [
            ("a", "active", "", [("x", "1"), ("a.b/c", "d e")].as_slice()),
            ("p", "committed", "", &[]),
            ("v", "view", "p", &[("x", "2")]),
        ];
        let filters = parse(filters).unwrap();
        let hits = things.iter().filter(|(name, kind, parent, labels)| {
            filters.match_fields(|path| match &path[0][..] {
                "name" => Some(name),
                "kind" => Some(kind),
                "parent" => Some(parent),
                "labels" => {
                    let key = path[1..].join(".");
                    labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
                }
                _ => None,
            })
        });
        hits.map(|(name, ..)| *name).collect()
    }

    #[test]
    fn selectors_match_as_containerds() {
        for (filters, names) in [
            (&[][..], "apv"),
            (&[""], "apv"),
            (&["name==p"], "p"),
            (&["name == p"], "p"),
            (&["name==p", "name==v"], "pv"),
            (&["kind==active,labels.x"], "a"),
            (&["kind==view,labels.x==1"], ""),
            (&["labels.x"], "av"),
            (&["labels.x!=1"], "pv"),
            (&["parent!=\"\""], "v"),
            (&["parent==\"\""], "ap"),
            (&["labels.\"a.b/c\"==\"d e\""], "a"),
            (&["labels.a.\"b/c\""], "a"),
            (&["name~=^[av]$"], "av"),
            (&["name~=/a|v/"], "av"),
            (&["name~=|a\\|v|"], "av"),
            (&["name~=\"[\""], ""),
            (&["name==\"\\x61\""], "a"),
            (&["name==\"\\141\""], "a"),
            (&["name==\"\\u0070\""], "p"),
            (&["unknown"], ""),
            (&["unknown!=1"], "apv"),
        ] {
            assert_eq!(matched(filters), names, "{filters:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in [
            "name=",
            "name=p",
            "name===p",
            "==p",
            "name==",
            ",",
            "name==p,",
            "name.",
            "name p",
            "name==\"p",
            "name==\"\\q\"",
            "name==\"\\xg0\"",
            "name==\"\\ud800\"",
            "name==\"\\",
            "näme",
            "name~=/a",
        ] {
            let refused = parse(&[filter]).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{filter}");
        }
    }
}
