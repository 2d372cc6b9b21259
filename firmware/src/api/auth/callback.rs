//! The page that a browser gets when it comes back from an identity provider: it keeps the token where the user
//! interface looks for it (local storage, `aifw_token`), asks for the second factor if one is wanted, and goes to `/`.

use data_encoding::BASE64;
use ring::digest::{SHA256, digest};
use serde_json::json;

use super::super::{ApiError, Reply};
use super::login::LoginView;

const SCRIPT: &str = r#"
const answer = JSON.parse(document.body.dataset.answer);
const text = document.getElementById("text");
const form = document.getElementById("code");
const keep = (tokens) => {
  localStorage.setItem("aifw_token", tokens.access_token);
  location.replace("/");
};
if (answer.tokens) {
  keep(answer.tokens);
} else if (answer.challenge) {
  text.textContent = "Code of your second factor";
  form.hidden = false;
  form.elements.code.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const reply = await fetch("/api/v1/auth/totp/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ challenge: answer.challenge, totp_code: form.elements.code.value }),
    });
    const body = await reply.json();
    if (reply.ok) { keep(body); } else { text.textContent = body.error; }
  });
} else {
  text.textContent = answer.error;
}
"#;

/// What may stand in an attribute between double quotes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn page(result: Result<LoginView, ApiError>) -> Reply {
    let (status, answer, headers) = match result {
        Ok(view) => (200, json!(view), Vec::new()),
        Err(error) => (error.status, json!({ "error": error.message }), error.headers),
    };
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>AiFw sign-in</title></head>\n\
         <body data-answer=\"{}\">\n<p id=\"text\"></p>\n<form id=\"code\" hidden><input name=\"code\" \
         autocomplete=\"one-time-code\"> <button>Sign in</button></form>\n<p><a href=\"/\">AiFw</a></p>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(&answer.to_string())
    );
    let hash = BASE64.encode(digest(&SHA256, SCRIPT.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let mut reply = Reply::bytes(status, "text/html; charset=utf-8", html.into_bytes())
        .with_header("Content-Security-Policy", policy)
        .with_header("X-Frame-Options", "DENY")
        .with_header("Referrer-Policy", "no-referrer");
    reply.headers.extend(headers);
    reply
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::super::super::reply::Payload;
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_leave_its_quotes() {
        let reply = page(Err(ApiError::bad_request(r#""><script>alert('x')</script>&"#)));
        let Payload::Bytes(bytes) = reply.body else { panic!("a page of bytes") };
        let html = String::from_utf8_lossy(&bytes);
        assert_eq!(html.matches("<script>").count(), 1);
        assert!(html.contains("&lt;script&gt;alert('x')&lt;/script&gt;&amp;"), "{html}");
        assert_eq!(reply.status, 400);
    }
}
