//! Releases from a server that breaks off, changes its mind, or lies.

use aifw::update::testing::noise;

use crate::rig::{Rig, image};
use crate::server::Server;

/// A package that is larger than what one answer gives.
fn large() -> Vec<u8> {
    noise(7, 2 * 1024 * 1024)
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = Server::start();
        let package = rig.package("9.9.9", &large());
        let bytes = package.bytes();
        server.release("9.9.9", "", &package.file_name(), &bytes);
        rig.look_at(&server).await;
        server.change(&format!("/files/{}", package.file_name()), |document| {
            document.breaks_after = Some(700_000);
        });
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 200, "{body}");
        let asked = server.asked("tar.xz");
        assert_eq!(asked.len(), bytes.len().div_ceil(700_000), "{asked:?}");
        assert_eq!(asked[0], None);
        assert_eq!(asked[1].as_deref(), Some("bytes=700000-"));
        assert_eq!(rig.slot("slot-b", large().len()), large());
        assert_eq!(rig.leftovers(), [""; 0]);
    });
}

#[test]
fn what_was_had_is_kept_for_the_next_attempt_unless_the_file_has_changed() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = Server::start();
        let package = rig.package("9.9.9", &large());
        let path = format!("/files/{}", package.file_name());
        server.release("9.9.9", "", &package.file_name(), &package.bytes());
        rig.look_at(&server).await;
        // Nothing at all comes after the first part.
        server.change(&path, |document| document.breaks_after = Some(0));
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 502, "{body}");
        server.change(&path, |document| document.breaks_after = Some(1_000_000));
        server.put("/files/other", Default::default());
        let before = server.asked("tar.xz").len();
        // A new package under the same name.
        let other = rig.package("9.9.9", &noise(8, 2 * 1024 * 1024));
        server.release("9.9.9", "", &other.file_name(), &other.bytes());
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 200, "{body}");
        assert!(server.asked("tar.xz").len() > before);
        assert_eq!(rig.slot("slot-b", 512), noise(8, 2 * 1024 * 1024)[..512]);
    });
}

#[test]
fn releases_are_not_downgraded_from_the_network_and_large_ones_are_not_fetched() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = Server::start();
        // The document says 9.9.9, the signed manifest something old.
        let old = rig.package("0.0.5", &image(1));
        let as_new = format!("aifw-update-9.9.9-{}.tar.xz", aifw::update::manifest::ARCH);
        server.release("9.9.9", "", &as_new, &old.bytes());
        rig.look_at(&server).await;
        let before = rig.everything();
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 502, "{body}");
        assert!(body["message"].as_str().unwrap().contains("not downgraded"), "{body}");
        // More than a slot can hold.
        server.release("9.9.9", "", &as_new, &vec![0; 21 << 20]);
        let (status, body) = rig.post("/updates/aifw/install").await;
        assert_eq!(status, 502, "{body}");
        assert!(body["message"].as_str().unwrap().contains("more than a package can have"), "{body}");
        assert_eq!(rig.everything(), before);
    });
}

#[test]
fn a_download_can_be_cancelled() {
    smol::block_on(async {
        let rig = Rig::new();
        let server = Server::start();
        let package = rig.package("9.9.9", &large());
        server.release("9.9.9", "", &package.file_name(), &package.bytes());
        rig.look_at(&server).await;
        assert_eq!(rig.post("/updates/aifw/check").await.0, 200);
        assert_eq!(rig.post("/updates/aifw/cancel").await.0, 409, "nothing is going on");
        server.hold(true);
        let client = rig.client.clone();
        let install = smol::spawn(async move { client.post("/updates/aifw/install").bearer("all").await });
        while rig.get("/updates/status").await["installing"] != true {
            smol::Timer::after(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(rig.post("/updates/aifw/cancel").await.0, 200);
        server.hold(false);
        let (status, body) = install.await;
        assert_eq!((status, &body["message"]), (409, &"cancelled".into()));
        assert_eq!(rig.get("/updates/status").await["installing"], false);
    });
}
