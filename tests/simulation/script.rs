//! What happens in one run, as a value made from its seed before the run begins: the stage, what befalls it, and what
//! goes wrong on the wire. Parts of it can be left out, and the rest stays what it was.

use std::time::Duration;

use kubervisor_core::words;
use serde_json::{Value, json};

use super::chance::Dice;
use super::object::Kind;
use super::scenes;

/// Makes another seed of one.
const MANAGED: u64 = 0x006b_6579;

/// Everything about one run.
#[derive(Debug, Clone)]
pub struct Script {
    pub seed: u64,
    pub services: Vec<ServicePlan>,
    pub events: Vec<(Duration, Event)>,
    pub faults: Vec<Fault>,
    /// When faults end and everything heals.
    pub calm_from: Duration,
    /// How many stand for the Lease.
    pub controllers: usize,
    /// As `--max-cuts-per-minute`.
    pub cuts_per_minute: &'static str,
    /// Everything stands still for this long at the end.
    pub rest: Duration,
}

/// A Service, its pods, and the KubervisorService over it.
#[derive(Debug, Clone)]
pub struct ServicePlan {
    pub namespace: &'static str,
    pub name: &'static str,
    pub replicas: usize,
    pub workload: Workload,
    /// The Service's selector holds the traffic key from the start.
    pub key: bool,
    /// The pods' template carries the traffic label.
    pub label_in_template: bool,
    pub spec: Value,
    /// Requests a second, and how many of them one pod bears.
    pub load: (u64, u64),
    /// Of a hundred new pods, sick from birth.
    pub born_sick: u64,
    /// minAvailable of a PodDisruptionBudget.
    pub budget: Option<u64>,
    /// Traffic stays on its node.
    pub local: bool,
    /// Another Service sends traffic to a share of the pods.
    pub neighbour: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Bare,
}

/// What people, nodes and pods do. `service` and `pod` are indices; a pod's is taken modulo what is there then.
#[derive(Debug, Clone)]
pub enum Event {
    Sicken {
        service: usize,
        pod: usize,
        share: u64,
        heals: Option<Duration>,
    },
    Crash {
        service: usize,
        pod: usize,
    },
    Drain {
        service: usize,
        pods: usize,
    },
    Flap {
        service: usize,
        pod: usize,
        down: Duration,
    },
    Scale {
        service: usize,
        replicas: usize,
    },
    Rollout {
        service: usize,
        sick: u64,
    },
    Surge {
        service: usize,
        load: u64,
    },
    Flip {
        service: usize,
        pod: usize,
        to: Option<&'static str>,
    },
    Garble {
        service: usize,
        pod: usize,
    },
    Edit {
        service: usize,
        edit: Edit,
    },
    Forget {
        service: usize,
    },
    Declare {
        service: usize,
    },
    Twin {
        service: usize,
    },
    Key {
        service: usize,
        on: bool,
    },
    Unserve {
        service: usize,
    },
    Serve {
        service: usize,
    },
    /// A person's word on one pod, in an annotation; taken back when all is calm.
    Wish {
        service: usize,
        pod: usize,
        word: &'static str,
    },
    /// All such words are taken back.
    Unsay,
    /// The annotation on the Lease that holds everything but returns.
    Freeze {
        on: bool,
    },
    Jump {
        seconds: i64,
    },
    /// The controller dies when it has sent so many more writes to pods, carried out or not.
    Kill {
        after: u64,
        carried_out: bool,
        back_after: Duration,
    },
}

#[derive(Debug, Clone)]
pub enum Edit {
    /// The first breaker only shows what it would do.
    Show(bool),
    Floor(u64),
    Mode(&'static str),
    Garbage,
    Mend,
    Retries(u64),
    /// Who adds the key.
    Keeper(&'static str),
}

impl Event {
    words! {
        /// For the table.
        pub fn name(self: &Self) -> NAMES {
            Self::Sicken { .. } => "a pod falls sick",
            Self::Crash { .. } => "a container crashes",
            Self::Drain { .. } => "pods are drained",
            Self::Flap { .. } => "readiness flaps",
            Self::Scale { .. } => "a workload is scaled",
            Self::Rollout { .. } => "a rollout runs",
            Self::Surge { .. } => "load surges",
            Self::Flip { .. } => "a person flips the label",
            Self::Garble { .. } => "marks are garbled",
            Self::Edit { .. } => "the spec is edited",
            Self::Forget { .. } => "the resource is deleted",
            Self::Declare { .. } => "the resource is made again",
            Self::Twin { .. } => "a second resource meets it",
            Self::Key { .. } => "the selector's key comes or goes",
            Self::Unserve { .. } => "the Service is deleted",
            Self::Serve { .. } => "the Service is made again",
            Self::Wish { .. } => "a person says what a pod may",
            Self::Unsay => "people take their word back",
            Self::Freeze { .. } => "a person freezes or thaws",
            Self::Jump { .. } => "the wall clock jumps",
            Self::Kill { .. } => "the controller is killed",
        }
    }
}

/// Something wrong for a while.
#[derive(Debug, Clone)]
pub struct Fault {
    pub from: Duration,
    pub until: Duration,
    pub what: What,
    /// How many of a hundred chances it takes.
    pub percent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Events of this kind come this much later.
    Lag(Kind, Duration),
    Lose(Kind),
    Repeat(Kind),
    /// Open watches say nothing and do not end.
    Silence(Kind),
    /// Watches break off.
    Break,
    /// Versions are too old.
    Gone,
    /// Lists are not streamed.
    NoStreams,
    /// Writes are refused with this code.
    Refuse(u16),
    /// Writes hang, and are carried out never, at once, or late.
    Hang(Option<Duration>),
    /// A write is carried out, and the connection breaks before the answer.
    LoseAnswer,
    /// Everything takes longer.
    Slow,
    /// Nobody listens.
    Away,
    SourceFails,
    SourceHangs,
    SourcePartial,
    SourceEmpty,
    SourceGaps,
    SourceNotANumber,
    SourceElsewhere,
    SourceLags(Duration),
    SourceTwice,
}

impl What {
    words! {
        /// For the table.
        pub fn name(self: &Self) -> NAMES {
            Self::Lag(..) => "watch lags",
            Self::Lose(_) => "event lost",
            Self::Repeat(_) => "event repeated",
            Self::Silence(_) => "watch silent",
            Self::Break => "watch broken off",
            Self::Gone => "version too old",
            Self::NoStreams => "list not streamed",
            Self::Refuse(409) => "write refused 409",
            Self::Refuse(410) => "write refused 410",
            Self::Refuse(422) => "write refused 422",
            Self::Refuse(429) => "write refused 429",
            Self::Refuse(_) => "write refused 500",
            Self::Hang(None) => "write hangs, never done",
            Self::Hang(Some(_)) => "write hangs, done late",
            Self::LoseAnswer => "answer lost",
            Self::Slow => "server slow",
            Self::Away => "server away",
            Self::SourceFails => "source fails",
            Self::SourceHangs => "source hangs",
            Self::SourcePartial => "source partial",
            Self::SourceEmpty => "source empty",
            Self::SourceGaps => "source with gaps",
            Self::SourceNotANumber => "source NaN",
            Self::SourceElsewhere => "source of another namespace",
            Self::SourceLags(_) => "source lags",
            Self::SourceTwice => "source ambiguous",
        }
    }

    /// Whether it is between the controller and the API server.
    pub fn on_the_wire(self) -> bool {
        !self.name().starts_with("source ")
    }
}

impl Fault {
    pub fn covers(&self, at: Duration) -> bool {
        self.from <= at && at < self.until
    }
}

/// The run of a seed.
pub fn script(seed: u64) -> Script {
    let mut dice = Dice::new(seed);
    let dice = &mut dice;
    let services: Vec<_> = (0..dice.within(1, 4)).map(|i| service(dice, i)).collect();
    let calm_from = Duration::from_secs(dice.within(240, 540));
    let mut events = Vec::new();
    for _ in 0..dice.within(8, 26) {
        let at = dice.seconds(20, calm_from.as_secs());
        let event = event(dice, services.len());
        follow_up(dice, at, &event, &mut events);
        events.push((at, event));
    }
    let mut faults = Vec::new();
    // One run of six is free of faults: what goes wrong there has no excuse.
    if !dice.happens(16) {
        for _ in 0..dice.within(1, 7) {
            faults.push(fault(dice, calm_from));
        }
    }
    let controllers = dice.pick(&[1, 1, 2]);
    let (cuts_per_minute, rest) = ("30,10%", Duration::from_secs(60));
    let mut script = Script { seed, services, events, faults, calm_from, controllers, cuts_per_minute, rest };
    if dice.happens(80) {
        scenes::set(dice, &mut script);
    }
    manage(&mut Dice::new(seed ^ MANAGED), &mut script);
    let late = |event: &Event| matches!(event, Event::Sicken { .. });
    script.events.retain(|(at, event)| *at < script.calm_from || !late(event));
    script.events.sort_by_key(|(at, _)| *at);
    script
}

/// Of some Services the controller owns the key; its own dice leave every other draw as it was.
fn manage(dice: &mut Dice, script: &mut Script) {
    for service in 0..script.services.len() {
        if !dice.happens(30) {
            continue;
        }
        let plan = &mut script.services[service];
        plan.spec["selectorManagement"] = json!("Managed");
        plan.key = dice.happens(40);
        let at = dice.seconds(20, script.calm_from.as_secs());
        let event = match dice.within(0, 6) {
            0 => Event::Edit { service, edit: Edit::Mode("Disabled") },
            1 => Event::Edit { service, edit: Edit::Keeper("Manual") },
            2 => Event::Forget { service },
            3 => Event::Key { service, on: false },
            _ => continue,
        };
        script.events.push((at, event));
        let again = at + dice.seconds(15, 90);
        match dice.within(0, 3) {
            0 => {}
            1 => script.events.push((again, Event::Declare { service })),
            _ => {
                script.events.push((again, Event::Edit { service, edit: Edit::Mode("Active") }));
                script.events.push((again, Event::Edit { service, edit: Edit::Keeper("Managed") }));
            }
        }
    }
}

/// What must not last for ever, or would hide everything after it, is undone some time later.
fn follow_up(dice: &mut Dice, at: Duration, event: &Event, events: &mut Vec<(Duration, Event)>) {
    let later = at + dice.seconds(20, 120);
    if let Event::Edit { service, edit: Edit::Show(true) } = event {
        events.push((later, Event::Edit { service: *service, edit: Edit::Show(false) }));
    }
    match event {
        Event::Forget { service } | Event::Twin { service } => {
            let service = *service;
            events.push((later, Event::Declare { service }));
        }
        Event::Sicken { service, pod, share, heals } if dice.happens(40) => {
            // Seldom alone: what one has, others get too.
            for i in 1..=dice.within(1, 4) {
                let other = pod + usize::try_from(i).unwrap_or(1);
                let soon = at + dice.seconds(0, 12);
                events.push((
                    soon,
                    Event::Sicken { service: *service, pod: other, share: *share, heals: *heals },
                ));
            }
        }
        Event::Key { service, on: false } => events.push((later, Event::Key { service: *service, on: true })),
        Event::Wish { .. } => events.push((later, Event::Unsay)),
        Event::Freeze { on: true } => events.push((later, Event::Freeze { on: false })),
        Event::Unserve { service } => events.push((later, Event::Serve { service: *service })),
        Event::Edit { service, edit: Edit::Garbage } => {
            events.push((later, Event::Edit { service: *service, edit: Edit::Mend }));
        }
        Event::Edit { service, edit: Edit::Mode(mode) } if *mode != "Active" => {
            events.push((later, Event::Edit { service: *service, edit: Edit::Mode("Active") }));
        }
        _ => {}
    }
}

fn service(dice: &mut Dice, index: u64) -> ServicePlan {
    // The second has the first one's name in another namespace.
    let (namespace, name) = [("orchard", "pears"), ("meadow", "pears"), ("orchard", "plums")]
        [usize::try_from(index).unwrap_or(0)];
    let replicas = usize::try_from(dice.pick(&[2, 3, 3, 4, 5, 6, 8, 10, 12])).unwrap_or(3);
    let workload = match dice.within(0, 10) {
        0 => Workload::StatefulSet,
        1 => Workload::DaemonSet,
        2 => Workload::Bare,
        _ => Workload::ReplicaSet,
    };
    let load = replicas as u64 * 10;
    // Now and then the rest cannot bear what cut pods leave to them.
    let bears = if dice.happens(35) { 13 } else { 40 };
    ServicePlan {
        namespace,
        name,
        replicas,
        workload,
        key: !dice.happens(10),
        label_in_template: !dice.happens(20),
        spec: spec(dice, namespace, name),
        load: (load, bears),
        born_sick: dice.pick(&[0, 0, 0, 10, 50]),
        budget: dice.happens(25).then(|| replicas as u64 - 1),
        local: dice.happens(15),
        neighbour: dice.happens(15),
    }
}

fn spec(dice: &mut Dice, namespace: &str, name: &str) -> Value {
    let count = dice.pick(&[1, 1, 1, 2]);
    let breakers: Vec<_> = (0..count).map(|i| breaker(dice, namespace, name, i)).collect();
    let mode = dice.pick(&["Active", "Active", "Active", "Active", "Active", "Active", "Active", "DryRun"]);
    let activator = json!({
        "mode": dice.pick(&["periodic", "retryAndKill", "retryAndKill", "retryAndPause"]),
        "period": dice.pick(&[5, 10, 20]),
        "maxRetryCount": dice.pick(&[0, 0, 1, 2]),
        "maxKillsPerHour": dice.pick(&[1, 2, 4]),
    });
    let mut spec =
        json!({"service": name, "mode": mode, "breakers": breakers, "defaultActivator": activator});
    if dice.happens(50) {
        spec["limits"]["maxCutRatio"] = json!(dice.pick(&[34, 50, 70, 100]));
    }
    if dice.happens(50) {
        spec["limits"]["maxCutsPerPeriod"] =
            dice.pick(&[json!(1), json!(2), json!(3), json!("50%"), json!("10%")]);
    }
    spec
}

fn breaker(dice: &mut Dice, namespace: &str, name: &str, index: u64) -> Value {
    let range = dice.pick(&[30, 60, 60, 120]);
    let metric = format!("{namespace}_{name}");
    let mut breaker = json!({"name": format!("rule-{index}"), "evaluationPeriod": dice.pick(&[2, 5, 5, 10])});
    match dice.within(0, 10) {
        0..=4 => {
            breaker["discreteValueOutOfList"] = json!({
                "prometheusService": "prometheus.watch:9090", "key": "code", "goodValues": ["200"],
                "promQL": format!("sum by (code, pod) (increase({metric}[{range}s]))"),
                "tolerance": dice.pick(&[20, 50]), "minActivity": dice.pick(&[2, 5]),
            });
        }
        5..=7 => {
            breaker["continuousValueDeviation"] = json!({
                "prometheusService": "prometheus.watch:9090", "maxDeviationPercent": dice.pick(&[30, 60]),
                "promQL": format!("rate({metric}[{range}s])"),
            });
        }
        _ => breaker["customService"] = json!(format!("judge.watch:8080/{namespace}/{name}")),
    }
    if dice.happens(40) {
        breaker["confirm"] = dice.pick(&[json!({"anomalous": 1, "of": 1}), json!({"anomalous": 3, "of": 5})]);
    }
    if dice.happens(70) {
        breaker["minPodsAvailableRatio"] = json!(dice.pick(&[30, 50, 67, 80]));
    }
    if dice.happens(40) {
        breaker["minPodsAvailableCount"] = json!(dice.pick(&[1, 1, 2, 3]));
    }
    breaker
}

fn event(dice: &mut Dice, services: usize) -> Event {
    let (service, pod) = (dice.index(services), dice.index(60));
    match dice.within(0, 42) {
        0..=11 => {
            let heals = dice.happens(60).then(|| dice.seconds(30, 200));
            Event::Sicken { service, pod, share: dice.pick(&[70, 90, 100]), heals }
        }
        12 | 13 => Event::Crash { service, pod },
        14 | 15 => Event::Drain { service, pods: dice.pick(&[1, 1, 2, 3]) },
        16 | 17 => Event::Flap { service, pod, down: dice.seconds(3, 60) },
        18 | 19 => Event::Scale { service, replicas: dice.pick(&[1, 2, 3, 5, 8, 12]) },
        20 => Event::Rollout { service, sick: dice.pick(&[0, 0, 50]) },
        21 | 22 => Event::Surge { service, load: dice.within(10, 400) },
        23..=25 => Event::Flip {
            service,
            pod,
            to: dice.pick(&[Some("yes"), Some("yes"), Some("no"), Some("maybe"), None]),
        },
        26 => Event::Garble { service, pod },
        27..=29 => Event::Edit { service, edit: edit(dice) },
        30 => Event::Forget { service },
        31 => Event::Twin { service },
        32 => Event::Key { service, on: false },
        33 => Event::Unserve { service },
        34 | 35 => Event::Wish { service, pod, word: dice.pick(&["Never", "Cut", "Serve"]) },
        36 => Event::Freeze { on: true },
        37 | 38 => Event::Jump { seconds: i64::try_from(dice.within(0, 14_400)).unwrap_or(0) - 7_200 },
        _ => Event::Kill {
            after: dice.within(0, 4),
            carried_out: dice.happens(50),
            back_after: dice.seconds(6, 60),
        },
    }
}

fn edit(dice: &mut Dice) -> Edit {
    match dice.within(0, 8) {
        6 | 7 => Edit::Show(true),
        0 | 1 => Edit::Floor(dice.pick(&[10, 50, 80, 100])),
        2 => Edit::Mode("DryRun"),
        3 => Edit::Mode("Disabled"),
        4 => Edit::Garbage,
        _ => Edit::Retries(dice.within(0, 3)),
    }
}

fn fault(dice: &mut Dice, calm_from: Duration) -> Fault {
    let mut from = dice.seconds(5, calm_from.as_secs() - 60);
    let mut until = (from + dice.seconds(10, 150)).min(calm_from);
    let kind = dice.pick(&[Kind::Pods, Kind::Pods, Kind::Pods, Kind::Services, Kind::Resources]);
    let what = match dice.within(0, 26) {
        0 | 1 => What::Lag(kind, dice.seconds(1, 40)),
        2 => What::Lose(kind),
        3 => What::Repeat(kind),
        4 => What::Silence(kind),
        5 => What::Break,
        6 => What::Gone,
        7 => What::NoStreams,
        8..=11 => What::Refuse(dice.pick(&[409, 410, 422, 429, 500])),
        12 => What::Hang(None),
        13 | 14 => What::Hang(Some(dice.seconds(0, 40))),
        15 => What::LoseAnswer,
        16 => What::Slow,
        17 => What::Away,
        18 => What::SourceFails,
        19 => What::SourceHangs,
        20 => What::SourcePartial,
        21 => What::SourceEmpty,
        22 => What::SourceGaps,
        23 => What::SourceNotANumber,
        24 => dice.pick(&[What::SourceElsewhere, What::SourceTwice]),
        _ => What::SourceLags(dice.seconds(5, 60)),
    };
    // Lists are made at the start, and one event of many is to be seen twice.
    if what == What::NoStreams {
        from = Duration::ZERO;
    }
    if matches!(what, What::Repeat(_) | What::NoStreams | What::Break) {
        until = calm_from;
    }
    Fault { from, until, what, percent: dice.pick(&[20, 50, 100]) }
}
