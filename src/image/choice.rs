//! Which of several images is meant: by its name, by its platform.

use super::json::refused;
use super::platform::Platform;
use super::search::Found;
use crate::error::Result;

impl Found {
    pub(super) fn is_called(&self, tag: &str) -> bool {
        self.id == tag || self.names.iter().any(|name| is_called(name, tag))
    }

    fn shown(&self) -> String {
        let name = self.names.first().unwrap_or(&self.id);
        let name = name.escape_debug();
        match self.platform.is_known() {
            true => format!("{name} ({})", shown(&self.platform)),
            false => name.to_string(),
        }
    }
}

/// Whether a name is meant by a tag, which may leave the registry or all of the repository out.
pub(super) fn is_called(name: &str, tag: &str) -> bool {
    let ends = |separator: char| {
        let rest = name.strip_suffix(tag);
        rest.is_some_and(|rest| rest.ends_with(separator))
    };
    name == tag || ends('/') || ends(':') && !tag.contains('/')
}

/// The image that is meant, of those that there are.
pub(super) fn choose(mut found: Vec<Found>, wanted: Option<&Platform>) -> Result<Found> {
    if let Some(wanted) = wanted {
        let all = platforms(&found);
        found.retain(|image| wanted.covers(&image.platform));
        if found.is_empty() {
            let wanted = shown(wanted);
            return Err(refused(format!(
                "there is no image for {wanted}, but {all}"
            )));
        }
    } else if found
        .windows(2)
        .any(|pair| pair[0].platform != pair[1].platform)
    {
        // Those that are there come first.
        if found.iter().any(|image| image.manifest.is_some()) {
            found.retain(|image| image.manifest.is_some());
        }
        let chosen = [Platform::host(), Platform::linux_amd64()]
            .iter()
            // The one that is there, so that its variant is one as well.
            .find_map(|wanted| found.iter().find(|image| wanted.covers(&image.platform)))
            .map(|image| image.platform.clone());
        match chosen {
            Some(chosen) => found.retain(|image| chosen.covers(&image.platform)),
            None if found.len() > 1 => {
                let all = platforms(&found);
                return Err(refused(format!("--platform has to say which image: {all}")));
            }
            None => {}
        }
    }
    let option = match found
        .windows(2)
        .any(|pair| pair[0].platform != pair[1].platform)
    {
        true => "--platform or --tag",
        false => "--tag",
    };
    match (found.pop(), found.is_empty()) {
        (Some(image), true) => Ok(image),
        (Some(last), false) => {
            found.push(last);
            Err(refused(format!(
                "{option} has to say which image: {}",
                names(&found)
            )))
        }
        (None, _) => Err(refused("there is no image")),
    }
}

/// A platform as a line of text: an image may call it anything.
pub(super) fn shown(platform: &Platform) -> String {
    platform.to_string().escape_debug().to_string()
}

/// Each platform once for a message, which must not grow as an index can.
fn platforms(found: &[Found]) -> String {
    const SHOWN: usize = 20;
    let mut all = Vec::new();
    for platform in found.iter().map(|image| shown(&image.platform)) {
        if all.len() < SHOWN && !all.contains(&platform) {
            all.push(platform);
        }
    }
    all.join(", ")
}

/// Names of images for a message, which must not grow as an index can.
pub(super) fn names(found: &[Found]) -> String {
    const SHOWN: usize = 20;
    let mut all: Vec<_> = found.iter().take(SHOWN).map(Found::shown).collect();
    if let Some(more) = found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}
