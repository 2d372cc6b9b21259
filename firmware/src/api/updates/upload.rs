//! `POST /updates/aifw/install-local`: a package in a form (RFC 7578), written to the disk as it comes.

use std::path::PathBuf;

use blocking::Unblock;
use futures_lite::{AsyncWriteExt, stream};
use multer::Multipart;

use super::work;
use crate::api::call::{Upload, too_large};
use crate::api::{ApiError, Call, Reply};
use crate::update::machine::MachineError;
use crate::update::package::PackageError;
use crate::update::{UpdateError, Updater};

/// Of the whole body, in bytes.
pub const LARGEST: usize = 500 * 1024 * 1024;
/// Of a part that is no file.
const LARGEST_TEXT: usize = 64 * 1024;

/// A file that goes when it is not needed any more.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// What the form held.
struct Form {
    tarball: Temporary,
    sha256: Option<String>,
    restart: bool,
}

pub async fn install_local(mut call: Call) -> Result<Reply, ApiError> {
    let updater = call.app.updater.clone();
    if updater.is_busy() {
        return Err(UpdateError::Busy.into());
    }
    let boundary = call.header("content-type").and_then(|kind| multer::parse_boundary(kind).ok());
    let boundary = boundary
        .ok_or_else(|| ApiError::bad_request("expected multipart/form-data with the part \"tarball\""))?;
    let upload = call.upload.take().ok_or_else(|| ApiError::internal("the body was read already"))?;
    let form = read(&updater, upload, boundary).await?;
    let done = work(&call.app, call.author(), "firmware installed from a file", move |updater, user| {
        let installed =
            updater.install_local(&form.tarball.0, form.sha256.as_deref(), user).map_err(refused)?;
        if form.restart {
            updater.restart(user)?;
        }
        Ok(installed)
    });
    Ok(Reply::json(&done.await?))
}

/// What somebody brings is their own fault: 400.
fn refused(error: UpdateError) -> ApiError {
    match error {
        UpdateError::Machine(MachineError::Package(PackageError::Sink(_))) => ApiError::internal(error),
        UpdateError::Machine(MachineError::Package(_)) => ApiError::bad_request(error.to_string()),
        other => other.into(),
    }
}

async fn read(updater: &Updater, upload: Upload, boundary: String) -> Result<Form, ApiError> {
    let room = upload.length.unwrap_or(0) as u64;
    let pieces = stream::unfold(Some(upload), |upload| async move {
        let mut upload = upload?;
        match upload.next().await {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => Some((Ok(piece), Some(upload))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut form = Multipart::new(Box::pin(pieces), boundary);
    let (mut tarball, mut sha256, mut restart) = (None, None, false);
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "tarball" => {
                let path = updater.upload_path(room)?;
                let temporary = Temporary(path.clone());
                let mut file = Unblock::new(create(path).await?);
                while let Some(piece) = field.chunk().await.map_err(broken)? {
                    file.write_all(&piece).await.map_err(UpdateError::Io)?;
                }
                file.flush().await.map_err(UpdateError::Io)?;
                tarball = Some(temporary);
            }
            "sha256" => sha256 = Some(text(&mut field).await?),
            "restart" => restart = text(&mut field).await?.trim() == "true",
            _ => {}
        }
    }
    let tarball = tarball.ok_or_else(|| ApiError::bad_request("tarball: expected a file"))?;
    Ok(Form { tarball, sha256, restart })
}

async fn create(path: PathBuf) -> Result<std::fs::File, ApiError> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = move || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(blocking::unblock(open).await.map_err(UpdateError::Io)?)
}

async fn text(field: &mut multer::Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > LARGEST_TEXT {
            return Err(too_large(LARGEST_TEXT));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A refusal of our own that went through the form's reader, or a fault of the form.
fn broken(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(inner) => match inner.downcast::<ApiError>() {
            Ok(refusal) => *refusal,
            Err(other) => ApiError::bad_request(format!("body: {other}")),
        },
        other => ApiError::bad_request(format!("body: expected multipart/form-data: {other}")),
    }
}
