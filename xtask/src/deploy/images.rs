//! No image whose tag moves: neither in what is installed, nor in what images are built from.
//!
//! The samples that stand for manifests of other projects are left out: they are theirs.

use std::path::Path;

use anyhow::Context;

/// What names images: files of `deploy`.
const FILES: [&str; 3] = [
    "deploy/install.yaml",
    "deploy/Dockerfile",
    "deploy/samples/pod.yaml",
];

/// Images that are named without a tag, or with one that moves.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in FILES {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for image in images(&text) {
            if !is_pinned(&image) {
                findings.push(format!("{file}: the image {image} has no tag that stays"));
            }
        }
    }
    Ok(findings)
}

/// The images that a manifest or a Dockerfile names, without stages of the Dockerfile itself.
pub fn images(text: &str) -> Vec<String> {
    let mut images = Vec::new();
    let mut stages = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(image) = line.trim_start_matches("- ").strip_prefix("image: ") {
            images.push(image.trim_matches('"').to_owned());
        }
        // Arguments of the Dockerfile that name images end in _IMAGE.
        if let Some((name, image)) = line.strip_prefix("ARG ").and_then(|line| line.split_once('='))
            && name.ends_with("_IMAGE")
        {
            images.push(image.to_owned());
        }
        if let Some(from) = line.strip_prefix("FROM ") {
            let mut words = from.split(' ').filter(|word| !word.starts_with("--"));
            let image = words.next().unwrap_or_default().to_owned();
            if !image.starts_with("${") && !stages.contains(&image) {
                images.push(image);
            }
            stages.extend(words.next_back().map(str::to_owned));
        }
    }
    images
}

/// Whether an image has a tag that is not `latest`, or a digest.
pub fn is_pinned(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once('@').or_else(|| name.split_once(':')) {
        Some((_, tag)) => tag != "latest" && !tag.is_empty(),
        None => false,
    }
}
