//! Dialogues with the receive side: each `tests/dialogues/*.txt` starts a relay of its own and
//! plays one or more clients against it. The form of a script is described in
//! `tests/dialogues/README.md`.
//!
//! `DIALOGUE=tarpit cargo test --test dialogues` plays those whose name contains the word.

// A test that cannot set up its world has to stop, and says where.
#![allow(clippy::unwrap_used)]

#[path = "dialogue_support/client.rs"]
mod client;
#[path = "dialogue_support/evidence.rs"]
mod evidence;
#[path = "dialogue_support/pattern.rs"]
mod pattern;
#[path = "dialogue_support/play.rs"]
mod play;
#[path = "dialogue_support/script.rs"]
mod script;
#[path = "dialogue_support/world.rs"]
mod world;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use script::Script;
use world::World;

/// Scripts played at once. Most of their time they wait for a timeout of the relay's.
const AT_ONCE: usize = 8;

#[test]
fn every_dialogue_goes_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let wanted = std::env::var("DIALOGUE").unwrap_or_default();
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .filter(|path| path.file_stem().unwrap().to_string_lossy().contains(&wanted))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no script in {} has {wanted:?} in its name", dir.display());

    let world = World::create();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("tests/dialogues/{}", path.file_name().unwrap().to_string_lossy());
                    let text = std::fs::read_to_string(path).unwrap();
                    let played = Script::parse(&name, &text).and_then(|script| play::play(&world, &script));
                    if let Err(failure) = played {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n\n{}",
        failures.len(),
        paths.len(),
        failures.join("\n\n")
    );
}
