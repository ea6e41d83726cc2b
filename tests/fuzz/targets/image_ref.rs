//! Image references: what is read is written and read again as the same, and what is short for it is the same too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall::model::ImageRef;

/// The longest tag.
const TAG_BYTES_MAX: usize = 128;
/// The longest repository.
const REPOSITORY_BYTES_MAX: usize = 255;

fuzz_target!(|text: &str| {
    let Ok(image) = ImageRef::parse(text) else { return };
    let written = image.to_string();
    assert_eq!(ImageRef::parse(&written).as_ref(), Ok(&image), "{text} is written as {written}");
    assert!(!image.repository.is_empty() && image.repository.len() <= REPOSITORY_BYTES_MAX, "{image:?}");
    assert!(image.tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= TAG_BYTES_MAX), "{image:?}");
    assert_eq!(image.is_pinned(), image.digest.is_some());
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} has characters that no reference has");
    if image.registry == "docker.io" {
        // A name of one part is short for one of the library.
        let library = if image.repository.contains('/') { "" } else { "library/" };
        let rest = image.tag.map(|tag| format!(":{tag}")).unwrap_or_default()
            + &image.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let long = format!("registry-1.docker.io/{library}{}{rest}", image.repository);
        if library.len() + image.repository.len() <= REPOSITORY_BYTES_MAX {
            assert_eq!(ImageRef::parse(&long).as_ref(), Ok(&image), "{long}");
        }
    }
});
