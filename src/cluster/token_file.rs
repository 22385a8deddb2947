//! A bearer token that stands in a file: read again each minute, as the tokens of pods are replaced every hour.
//!
//! In the place of kube's own, which sends the line's end along, so that no request could leave where a person wrote the
//! file (`kubectl create token … > FILE`). kubectl takes it as it is here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use kube::client::AuthError;
use kube::config::AuthInfo;
use tokio::time::Instant;

/// As client-go has it.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// The token, and when it was last read.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    read: Arc<Mutex<(HeaderValue, Instant)>>,
}

impl TokenFile {
    /// Takes it out of a login, where that is the way to log in.
    ///
    /// # Errors
    /// It cannot be read, or is no token.
    pub fn taken_from(login: &mut AuthInfo) -> Result<Option<Self>, AuthError> {
        let AuthInfo { auth_provider, username, password, token, .. } = &*login;
        let before = auth_provider.is_some() || token.is_some() || (username.is_some() && password.is_some());
        let Some(path) = login.token_file.take_if(|_| !before).map(PathBuf::from) else { return Ok(None) };
        // Comes after it.
        login.exec = None;
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| AuthError::ReadTokenFile(error, path.clone()))?;
        let read = Arc::new(Mutex::new((header(&text)?, Instant::now())));
        Ok(Some(Self { path, read }))
    }

    /// What says it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.1.elapsed() >= READ_AGAIN {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            // One that is gone, or is being written, may do a minute longer (kubernetes/kubernetes#68164).
            if let (false, Ok(header)) = (text.trim().is_empty(), header(&text)) {
                read.0 = header;
            }
            read.1 = Instant::now();
        }
        read.0.clone()
    }
}

fn header(text: &str) -> Result<HeaderValue, AuthError> {
    let header = HeaderValue::try_from(format!("Bearer {}", text.trim()));
    let mut header = header.map_err(AuthError::InvalidBearerToken)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn login(path: &std::path::Path) -> AuthInfo {
        serde_json::from_value(json!({"tokenFile": path, "exec": {"command": "cloud-login"}})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_replaced_is_taken_within_a_minute_and_one_that_is_away_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "pear\n").unwrap();
        let mut login = login(&path);
        let file = TokenFile::taken_from(&mut login).unwrap().unwrap();
        assert!(login.token_file.is_none() && login.exec.is_none());
        assert_eq!(file.header(), "Bearer pear");
        for (text, header) in
            [(Some("plum\r\n"), "Bearer plum"), (Some(""), "Bearer plum"), (None, "Bearer plum")]
        {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            tokio::time::advance(READ_AGAIN).await;
            assert_eq!(file.header(), header, "{text:?}");
        }
        std::fs::write(&path, "fig").unwrap();
        assert_eq!(file.header(), "Bearer plum", "it is not read for every request");
        tokio::time::advance(READ_AGAIN).await;
        assert_eq!(file.header(), "Bearer fig");
        assert!(file.header().is_sensitive(), "it is in no log");
    }

    #[test]
    fn a_token_of_the_kubeconfig_comes_first_and_a_file_that_is_not_there_is_named() {
        let path = std::path::Path::new("/nonexistent/token");
        let mut named = login(path);
        named.token = Some("own".to_owned().into());
        assert!(TokenFile::taken_from(&mut named).unwrap().is_none());
        assert!(named.token_file.is_some() && named.exec.is_some(), "kube takes what it took");
        assert!(TokenFile::taken_from(&mut AuthInfo::default()).unwrap().is_none());
        let missing = TokenFile::taken_from(&mut login(path)).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/token"), "{missing}");
    }
}
