//! What the linker made, read back from the file itself: only a program that FreeBSD on amd64 would start passes.

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// Why FreeBSD would not start a program.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Foreign {
    #[error("not an ELF file: {0}")]
    NotElf(String),
    #[error("not for x86-64 (machine {0})")]
    Machine(u16),
    #[error("not an executable (type {0})")]
    NotExecutable(u16),
    #[error("no FreeBSD version note")]
    NoNote,
    #[error("its interpreter is {0}")]
    Interpreter(String),
}

/// Facts of a FreeBSD program.
#[derive(Debug, PartialEq)]
pub struct Program {
    /// `__FreeBSD_version` that it was linked for: 1500500 is a 15.0.
    pub version: u32,
    /// `None` for a statically linked one.
    pub interpreter: Option<String>,
}

/// FreeBSD's run-time linker, rtld(1).
const RTLD: &str = "/libexec/ld-elf.so.1";

/// Reads an executable's headers and notes; the format is elf(5), the note FreeBSD's NT_FREEBSD_ABI_TAG.
pub fn check(bytes: &[u8]) -> Result<Program, Foreign> {
    const NT_FREEBSD_ABI_TAG: u32 = 1;
    let broken = |error: object::Error| Foreign::NotElf(error.to_string());
    let header = elf::FileHeader64::<Endianness>::parse(bytes).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(Foreign::Machine(header.e_machine(endian).0));
    }
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return Err(Foreign::NotExecutable(header.e_type(endian).0));
    }
    let mut version = None;
    let mut interpreter = None;
    for segment in header.program_headers(endian, bytes).map_err(broken)? {
        if let Some(path) = segment.interpreter(endian, bytes).map_err(broken)? {
            interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
        let Some(mut notes) = segment.notes(endian, bytes).map_err(broken)? else { continue };
        while let Some(note) = notes.next().map_err(broken)? {
            if note.name() == b"FreeBSD" && note.n_type(endian).0 == NT_FREEBSD_ABI_TAG {
                version = note.desc().first_chunk::<4>().map(|four| u32::from_le_bytes(*four)).or(version);
            }
        }
    }
    match (version, interpreter) {
        (None, _) => Err(Foreign::NoNote),
        (Some(_), Some(other)) if other != RTLD => Err(Foreign::Interpreter(other)),
        (Some(version), interpreter) => Ok(Program { version, interpreter }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The smallest 64-bit ELF file with an interpreter and one note.
    fn elf_file(machine: u16, kind: u16, interpreter: &str, owner: &[u8; 8], version: u32) -> Vec<u8> {
        let (headers, text) = (64 + 2 * 56, interpreter.len() as u64 + 1);
        let note_at = (headers as u64 + text).next_multiple_of(4);
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [kind, machine] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for word in [0u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for (kind, at, length) in [(3u32, headers as u64, text), (4, note_at, 24)] {
            file.extend(kind.to_le_bytes());
            file.extend(4u32.to_le_bytes());
            for word in [at, at, at, length, length, 4] {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(interpreter.as_bytes());
        file.resize(note_at as usize, 0);
        for word in [8u32, 4, 1] {
            file.extend(word.to_le_bytes());
        }
        file.extend(owner);
        file.extend(version.to_le_bytes());
        file
    }

    #[test]
    fn a_freebsd_program_tells_its_version() {
        let file = elf_file(62, 3, "/libexec/ld-elf.so.1", b"FreeBSD\0", 1_500_500);
        let expected = Program { version: 1_500_500, interpreter: Some("/libexec/ld-elf.so.1".into()) };
        assert_eq!(check(&file), Ok(expected));
    }

    #[test]
    fn other_programs_are_refused_with_the_reason() {
        let freebsd = b"FreeBSD\0";
        assert_eq!(check(&elf_file(183, 3, RTLD, freebsd, 1)), Err(Foreign::Machine(183)));
        assert_eq!(check(&elf_file(62, 1, RTLD, freebsd, 1)), Err(Foreign::NotExecutable(1)));
        assert_eq!(check(&elf_file(62, 3, RTLD, b"NetBSD\0\0", 1)), Err(Foreign::NoNote));
        let linux = "/lib64/ld-linux-x86-64.so.2";
        assert_eq!(check(&elf_file(62, 3, linux, freebsd, 1)), Err(Foreign::Interpreter(linux.into())));
        assert!(matches!(check(b"#!/bin/sh\n"), Err(Foreign::NotElf(_))));
        #[cfg(target_os = "linux")]
        assert!(check(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).is_err());
    }
}
