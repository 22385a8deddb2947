//! Where each KubervisorService can be asked why.
//!
//! A question goes to the owner, which alone knows; few wait, and none for long. Nothing is decided or asked of a source
//! because of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::api::{Explained, Identity, NotExplained, Unexplained};

/// Questions that wait for one owner.
const WAITING: usize = 8;
/// Questions on their way over all owners: each answer may take 1 MiB.
const AT_ONCE: usize = 16;
/// An owner that carries a plan out may be late; people and proxies do not wait longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What an owner is asked.
#[derive(Debug)]
pub struct Question {
    /// One pod; all of them where absent.
    pub pod: Option<Arc<str>>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// An explanation, or why there is none.
pub type Reply = Result<Box<Explained>, NotExplained>;

type Key = (Arc<str>, Arc<str>);

/// The doors of all owners of this process.
#[derive(Debug)]
pub struct Doors {
    places: Mutex<BTreeMap<Key, Place>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Place {
    uid: Arc<str>,
    /// None while no owner runs: another process acts, or this one starts.
    door: Option<mpsc::Sender<Question>>,
}

impl Default for Doors {
    fn default() -> Self {
        Self { places: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

/// A KubervisorService that is known here, until this is dropped.
#[derive(Debug)]
pub struct Known {
    doors: Arc<Doors>,
    id: Identity,
}

/// An owner that answers, until this is dropped.
#[derive(Debug)]
pub struct Door {
    /// What it is asked.
    pub questions: mpsc::Receiver<Question>,
    doors: Arc<Doors>,
    id: Identity,
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut places = self.doors.lock();
        let key = key(&self.id);
        if places.get(&key).is_some_and(|place| place.uid == self.id.uid) {
            places.remove(&key);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut places = self.doors.lock();
        // Another object of this name has a door of its own.
        let own = places.get_mut(&key(&self.id)).filter(|place| place.uid == self.id.uid);
        if let Some(place) = own {
            place.door = None;
        }
    }
}

fn key(id: &Identity) -> Key {
    (Arc::clone(&id.namespace), Arc::clone(&id.name))
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a KubervisorService known; nobody answers for it yet.
    pub fn know(self: &Arc<Self>, id: &Identity) -> Known {
        self.lock().insert(key(id), Place { uid: Arc::clone(&id.uid), door: None });
        Known { doors: Arc::clone(self), id: id.clone() }
    }

    /// Opens the door of its owner.
    pub fn open(self: &Arc<Self>, id: &Identity) -> Door {
        let (send, questions) = mpsc::channel(WAITING);
        self.lock().insert(key(id), Place { uid: Arc::clone(&id.uid), door: Some(send) });
        Door { questions, doors: Arc::clone(self), id: id.clone() }
    }

    /// Asks the owner, and waits for a while.
    ///
    /// # Errors
    /// Why nothing is explained.
    pub async fn ask(&self, namespace: &str, name: &str, pod: Option<&str>) -> Reply {
        let busy =
            |why: &str| Err(NotExplained::new(Unexplained::Busy, format!("{why}; ask again in a moment")));
        let Ok(_turn) = self.turns.try_acquire() else {
            return busy("too many ask this controller at once");
        };
        let door = self.door(namespace, name)?;
        let (reply, answer) = oneshot::channel();
        if door.try_send(Question { pod: pod.map(Arc::from), reply }).is_err() {
            return busy(&format!("too many ask for KubervisorService {namespace}/{name} at once"));
        }
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            // Its owner has ended meanwhile, or is busy with writes.
            Ok(Err(_)) | Err(_) => busy(&format!(
                "KubervisorService {namespace}/{name} gave no answer within {} s",
                ANSWER_WITHIN.as_secs()
            )),
        }
    }

    fn door(&self, namespace: &str, name: &str) -> Result<mpsc::Sender<Question>, NotExplained> {
        let places = self.lock();
        let known = places.iter().find(|((ns, of), _)| **ns == *namespace && **of == *name);
        match known.map(|(_, place)| &place.door) {
            Some(Some(door)) => Ok(door.clone()),
            Some(None) => Err(NotExplained::new(
                Unexplained::Standby,
                format!(
                    "this controller does not decide for KubervisorService {namespace}/{name} now: another one holds the \
                     Lease, or this one has just started; ask the one that holds it, or again in a moment"
                ),
            )),
            None => {
                let names = places.keys().filter(|(ns, _)| **ns == *namespace).map(|(_, name)| &**name);
                let text = format!("KubervisorService {name:?} not found in namespace {namespace:?}");
                Err(NotExplained::new(Unexplained::UnknownService, text).meant(name, names))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, uid: &str) -> Identity {
        Identity { namespace: "orchard".into(), name: name.into(), uid: uid.into() }
    }

    fn said(reply: Reply) -> (Unexplained, String) {
        let not = reply.unwrap_err();
        (not.reason, not.error)
    }

    #[tokio::test]
    async fn a_question_reaches_the_owner_and_the_answer_whoever_asked() {
        let doors = Arc::new(Doors::default());
        let mut door = doors.open(&id("pears", "k1"));
        let owner = async {
            let question = door.questions.recv().await.unwrap();
            let name = question.pod.unwrap().to_string();
            question.reply.send(Ok(Box::new(Explained { name, ..Explained::default() }))).unwrap();
        };
        let (answer, ()) = tokio::join!(doors.ask("orchard", "pears", Some("pear-1")), owner);
        assert_eq!(answer.unwrap().name, "pear-1");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_told_from_one_that_another_controller_decides_for() {
        let doors = Arc::new(Doors::default());
        let known = doors.know(&id("pears", "k1"));
        let (reason, text) = said(doors.ask("orchard", "pearz", None).await);
        assert_eq!(reason, Unexplained::UnknownService);
        assert!(text.ends_with("not found in namespace \"orchard\"; did you mean \"pears\"?"), "{text}");
        assert_eq!(said(doors.ask("meadow", "pears", None).await).0, Unexplained::UnknownService);
        drop(doors.open(&id("pears", "k1")));
        assert_eq!(said(doors.ask("orchard", "pears", None).await).0, Unexplained::Standby);
        drop(known);
        assert_eq!(said(doors.ask("orchard", "pears", None).await).0, Unexplained::UnknownService);
    }

    #[tokio::test]
    async fn the_next_object_of_a_name_keeps_its_door_when_the_last_one_goes() {
        let doors = Arc::new(Doors::default());
        let (former, known) = (doors.open(&id("pears", "k1")), doors.know(&id("pears", "k1")));
        let _door = doors.open(&id("pears", "k2"));
        drop((former, known));
        assert!(doors.door("orchard", "pears").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_does_not_answer_keeps_few_waiting_and_none_for_long() {
        let doors = Arc::new(Doors::default());
        let names = ["pears", "plums", "quinces"];
        let _doors = names.map(|name| doors.open(&id(name, "k1")));
        let asked = names.iter().flat_map(|name| (0..10).map(|_| doors.ask("orchard", name, None)));
        let said: Vec<_> = futures::future::join_all(asked).await.into_iter().map(said).collect();
        assert!(said.iter().all(|(reason, _)| *reason == Unexplained::Busy));
        let of = |word: &str| said.iter().filter(|(_, text)| text.contains(word)).count();
        assert_eq!(
            [of("no answer within 2 s"), of("orchard/pears at once"), of("this controller at once")],
            [16, 2, 12]
        );
    }
}
