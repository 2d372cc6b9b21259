//! The boot medium as the updater sees it: two slots of which one runs, their boot attributes, their bytes.
//! `freebsd` is the real one, through gpart(8); `image` is a disk image in a file, for the sandbox and for tests.

pub mod freebsd;
pub mod image;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::gpt::{Attribute, Attributes, GptError};
use crate::tool::ToolError;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotName {
    A,
    B,
}

impl SlotName {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
    pub fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
    /// The GPT label of its partition.
    pub fn label(self) -> &'static str {
        match self {
            Self::A => "slot-a",
            Self::B => "slot-b",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error(transparent)]
    Table(#[from] GptError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("gpart {command}: {reason}")]
    Gpart { command: String, reason: String },
    #[error("this machine does not run from a slot: {0}")]
    NoSlots(String),
}

/// The bytes of a slot, in multiples of 512.
pub trait Medium: Send {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// What was written is on the medium.
    fn sync(&mut self) -> io::Result<()>;
}

/// The boot medium. Every call may block.
pub trait Slots: Send + Sync {
    /// The slot whose firmware this is.
    fn running(&self) -> Result<SlotName, SlotError>;
    fn attributes(&self, slot: SlotName) -> Result<Attributes, SlotError>;
    /// Sets or clears an attribute; it is on the medium when this returns. To set `bootonce` sets `bootme`, too.
    fn set(&self, slot: SlotName, attribute: Attribute, on: bool) -> Result<(), SlotError>;
    /// Makes both copies of the partition table valid, if one is not.
    fn repair(&self) -> Result<(), SlotError>;
    /// Bytes of a slot.
    fn capacity(&self, slot: SlotName) -> Result<u64, SlotError>;
    fn open(&self, slot: SlotName) -> Result<Box<dyn Medium>, SlotError>;
    /// The version of the firmware in a slot, read from its file system where that is possible.
    fn version(&self, slot: SlotName) -> Option<String>;
}
