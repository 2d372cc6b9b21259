//! The small programs that stand between cargo and zig: a C compiler, an archiver, and the linker of static programs.

use std::path::Path;

/// Zig's name of the target, with the FreeBSD version to link for.
const ZIG_TARGET: &str = "x86_64-freebsd.15.0-none";

/// Calls zig as a C compiler and linker. Rust asks for libraries that only FreeBSD's own base system has, and
/// that nothing in the firmware calls; rustc's and the cc crate's `--target` names the target in a way that zig
/// does not know.
pub fn compiler_script(zig: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         for argument do\n\
         \tshift\n\
         \tcase $argument in\n\
         \t-lkvm|-lmemstat|-lprocstat|-ldevstat|--target=*) ;;\n\
         \t*) set -- \"$@\" \"$argument\" ;;\n\
         \tesac\n\
         done\n\
         exec '{}' cc -target {ZIG_TARGET} -fno-sanitize=undefined \"$@\"\n",
        zig.display()
    )
}

pub fn archiver_script(zig: &Path) -> String {
    format!("#!/bin/sh\nexec '{}' ar \"$@\"\n", zig.display())
}

/// Links a static program from FreeBSD's own start files and archives. Rust names the shared libraries that it would
/// load; of the unwinder only the archive `libgcc_eh` is static, and the others are called by nothing.
pub fn static_linker_script(zig: &Path, sysroot: &Path) -> String {
    let (zig, lib) = (zig.display(), sysroot.join("usr/lib"));
    let lib = lib.display();
    format!(
        "#!/bin/sh\n\
         for argument do\n\
         \tshift\n\
         \tcase $argument in\n\
         \t-lkvm|-lmemstat|-lprocstat|-ldevstat|-lgcc_s|-Bdynamic|-pie|-flavor|gnu) ;;\n\
         \t*) set -- \"$@\" \"$argument\" ;;\n\
         \tesac\n\
         done\n\
         exec '{zig}' ld.lld -m elf_x86_64_fbsd --eh-frame-hdr -static -z noexecstack -L '{lib}' \\\n\
         \t'{lib}/crt1.o' '{lib}/crti.o' '{lib}/crtbeginT.o' \"$@\" \\\n\
         \t--start-group -lc -lpthread -lm -lrt -lutil -lgcc_eh -lgcc --end-group '{lib}/crtend.o' '{lib}/crtn.o'\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::super::write_program;
    use super::*;

    /// What a script calls zig with: a stand-in prints the arguments it is given, one a line.
    fn called(script: impl Fn(&Path) -> String, given: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let zig = folder.path().join("zig");
        write_program(&zig, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        let program = folder.path().join("program");
        write_program(&program, &script(&zig)).unwrap();
        let output = Command::new(&program).args(given).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_linker_drops_what_zig_has_not_and_keeps_the_rest() {
        let given = [
            "--target=x86_64-unknown-freebsd",
            "-lc",
            "-lkvm",
            "-o",
            "a file",
            "-lmemstat",
            "-lprocstat",
            "-ldevstat",
            "",
        ];
        assert_eq!(
            called(compiler_script, &given),
            "cc\n-target\nx86_64-freebsd.15.0-none\n-fno-sanitize=undefined\n-lc\n-o\na file\n\n"
        );
    }

    #[test]
    fn static_programs_are_linked_from_the_sysroot_alone() {
        let told = called(
            |zig| static_linker_script(zig, Path::new("/s")),
            &["-flavor", "gnu", "-pie", "-lgcc_s", "a b.o", "-lkvm"],
        );
        assert_eq!(
            told,
            "ld.lld\n-m\nelf_x86_64_fbsd\n--eh-frame-hdr\n-static\n-z\nnoexecstack\n-L\n/s/usr/lib\n/s/usr/lib/crt1.o\n\
             /s/usr/lib/crti.o\n/s/usr/lib/crtbeginT.o\na b.o\n--start-group\n-lc\n-lpthread\n-lm\n-lrt\n-lutil\n\
             -lgcc_eh\n-lgcc\n--end-group\n/s/usr/lib/crtend.o\n/s/usr/lib/crtn.o\n"
        );
    }
}
