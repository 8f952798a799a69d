//! The DLL in real programs: what do they get?
//!
//! For Windows, and Wine, as 64-bit and as 32-bit programs. The programs are this
//! very file under other roles (`victim.rs`), and one in C that `make` compiles. Under Wine every process is
//! in session 1; 127.0.0.2 stands for its virtual address.

#![cfg(windows)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

/// What such a program asks about names and addresses.
mod asks;
/// How it talks to others.
mod client;
/// A program that does what it is told.
mod victim;
/// A daemon of the test's own, and programs around it.
mod world;

/// Which address does a bind get?
mod binds;
/// Do children carry the hook?
mod children;
/// What does a conversation leave from?
mod connects;
/// Whom does the hook believe, and what if something is wrong?
mod doubt;
/// How often does a program stand still for it?
mod halts;
/// When is a question about the name answered, and to whom?
mod moments;
/// What do the host's name and its adapters say?
mod names;
/// Is a script known by the process that runs it?
mod scripts;
/// And programs of the other width?
mod width;
