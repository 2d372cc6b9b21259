//! Steps 1, 2 and 8: who may sign in, and how.

use zeroize::Zeroizing;

use super::Dialogue;
use super::answers::Ssh;
use crate::api::console::Keys;
use crate::config::setup::answers;
use crate::console::terminal::Left;
use serde_json::json;

/// After so many refused passwords for root, the question is passed over.
const ATTEMPTS: usize = 5;

impl Dialogue<'_> {
    pub(super) fn root_password(&mut self) -> Result<Option<Zeroizing<String>>, Left> {
        self.heading(1, "Root password");
        self.terminal.line("For signing in on the console. 8 characters or more.");
        let keeps = self.seen.present.as_ref().is_some_and(|present| present.root_password);
        if keeps && self.terminal.yes_no("Keep the present one?", true)? {
            return Ok(None);
        }
        let password = self.terminal.new_password("New password", ATTEMPTS, answers::root_password)?;
        if password.is_none() {
            self.terminal.warn("No password for root is set.");
        }
        Ok(password)
    }

    pub(super) fn ssh(&mut self) -> Result<Ssh, Left> {
        self.heading(2, "SSH access");
        let by_password = self.seen.present.as_ref().is_some_and(|present| present.ssh_password_auth);
        let methods = ["Key only", "Password"].map(str::to_owned);
        if self.terminal.choose(&methods, by_password.into())? == 1 {
            return Ok(Ssh::Password { for_want_of_keys: false });
        }
        let held = self.seen.present.as_ref().map_or(0, |present| present.ssh_keys);
        if held > 0 {
            self.terminal.line(format_args!("{held} of them may sign in already; they stay."));
        }
        let mut keys = self.published_keys()?;
        if keys.is_empty() {
            keys.extend(self.pasted_key()?);
        }
        if keys.is_empty() && held == 0 {
            self.terminal.warn("There is no key: root signs in with its password over SSH.");
            return Ok(Ssh::Password { for_want_of_keys: true });
        }
        Ok(Ssh::Keys(keys))
    }

    /// Keys of a GitHub user, shown and confirmed.
    fn published_keys(&mut self) -> Result<Vec<String>, Left> {
        let user = self.terminal.ask_until("GitHub user name (Enter = none)", "", |text| match text {
            "" => Ok(None),
            text => answers::github_user(text).map(Some),
        })?;
        let Some(user) = user else { return Ok(Vec::new()) };
        self.terminal.line(format_args!("Fetching the keys of {user} ..."));
        let keys = match self.client.post::<Keys>("/setup/keys", &json!({ "user": user })) {
            Ok(answer) => answer.keys,
            Err(error) => {
                self.terminal.warn(error);
                return Ok(Vec::new());
            }
        };
        if keys.is_empty() {
            self.terminal.warn(format_args!("{user} has published no key."));
            return Ok(Vec::new());
        }
        for key in &keys {
            self.terminal.line(format_args!("  {} {}", key.kind, key.fingerprint));
        }
        match self.terminal.yes_no("Let these sign in as root?", true)? {
            true => Ok(keys.into_iter().map(|key| key.line).collect()),
            false => Ok(Vec::new()),
        }
    }

    fn pasted_key(&mut self) -> Result<Option<String>, Left> {
        let text = self.terminal.ask("Public key, one line (Enter = none)", "")?;
        if text.is_empty() {
            return Ok(None);
        }
        match answers::public_key(&text) {
            Ok(key) => {
                let fingerprint = answers::fingerprint(&key).unwrap_or_default();
                self.terminal.ok(format_args!("{fingerprint}"));
                Ok(Some(key))
            }
            Err(bad) => {
                self.terminal.warn(bad.reason);
                Ok(None)
            }
        }
    }

    pub(super) fn administrator(&mut self) -> Result<(String, Zeroizing<String>), Left> {
        self.heading(8, "Administrator of web UI and API");
        let name = self.terminal.ask_until("User", "admin", answers::admin_username)?;
        self.terminal.line("8 characters or more, with upper case, lower case and a digit.");
        let judge = |text: &str| answers::password("admin_password", text);
        loop {
            if let Some(password) = self.terminal.new_password("Password", 0, judge)? {
                return Ok((name, password));
            }
        }
    }
}
