//! Chains of things that chance alone brings about too seldom: one of them is put into the story of most seeds.

use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Dice;
use super::object::Kind;
use super::script::{Edit, Event, Fault, Script, What, Workload};

/// Time that a scene has before all is calm.
const LENGTH: u64 = 200;
/// A strike is forgiven after five minutes of health, of which not every second counts.
const LONG_REST: Duration = Duration::from_secs(660);

/// Puts one scene into the story.
pub fn set(dice: &mut Dice, script: &mut Script) {
    let service = dice.index(script.services.len());
    script.calm_from = script.calm_from.max(Duration::from_secs(40 + LENGTH));
    let from = dice.seconds(30, script.calm_from.as_secs() + 1 - LENGTH);
    let play = dice.index(11);
    let mut scene = Scene { dice, script, service, from };
    scene.clear();
    match play {
        0 => scene.blindfold(),
        1 => scene.refused(),
        2 => scene.opened(),
        3 => scene.shrinks(),
        4 => scene.shown(),
        5 => scene.overload(),
        6 => scene.wishes(),
        7 => scene.guarded(),
        8 => scene.braked(),
        9 => scene.paused(),
        _ => scene.long_health(),
    }
}

struct Scene<'a> {
    dice: &'a mut Dice,
    script: &'a mut Script,
    service: usize,
    from: Duration,
}

impl Scene<'_> {
    /// Within these seconds of the scene.
    fn at(&mut self, from: u64, to: u64, event: Event) {
        let at = self.from + self.dice.seconds(from, to);
        self.script.events.push((at, event));
    }

    fn fault(&mut self, seconds: u64, what: What, percent: u64) {
        let until = (self.from + Duration::from_secs(seconds)).min(self.script.calm_from);
        self.script.faults.push(Fault { from: self.from, until, what, percent });
    }

    /// A fleet in which a sick pod is cut: large enough, behind the key, and with room in its limits.
    fn clear(&mut self) {
        let plan = &mut self.script.services[self.service];
        plan.replicas = usize::try_from(self.dice.within(7, 12)).unwrap_or(8);
        plan.load = (plan.replicas as u64 * 10, 40);
        (plan.key, plan.workload) = (true, Workload::ReplicaSet);
        (plan.budget, plan.local, plan.neighbour) = (None, false, false);
        plan.spec["mode"] = json!("Active");
        plan.spec["limits"] = json!({"maxCutRatio": 50, "maxCutsPerPeriod": 2});
        plan.spec["breakers"].as_array_mut().into_iter().for_each(|breakers| breakers.truncate(1));
        let breaker = &mut plan.spec["breakers"][0];
        let metric = format!("{}_{}", plan.namespace, plan.name);
        breaker["customService"] = Value::Null;
        breaker["continuousValueDeviation"] = Value::Null;
        breaker["discreteValueOutOfList"] = json!({
            "prometheusService": "prometheus.watch:9090", "key": "code", "goodValues": ["200"],
            "promQL": format!("sum by (code, pod) (increase({metric}[30s]))"), "tolerance": 20, "minActivity": 2,
        });
        breaker["minPodsAvailableRatio"] = json!(50);
        breaker["minPodsAvailableCount"] = Value::Null;
        breaker["confirm"] = Value::Null;
    }

    fn floor(&mut self, percent: u64) {
        self.script.services[self.service].spec["breakers"][0]["minPodsAvailableRatio"] = json!(percent);
    }

    /// These pods fall sick within the first half minute, for good or for a while.
    fn sick(&mut self, pods: usize, heals: Option<Duration>) {
        for pod in 0..pods {
            let event = Event::Sicken { service: self.service, pod, share: 90, heals };
            self.at(0, 30, event);
        }
    }

    /// The first cut that does not help is the last one.
    fn ladder(&mut self, mode: &str) {
        let spec = &mut self.script.services[self.service].spec;
        spec["defaultActivator"]["mode"] = json!(mode);
        spec["defaultActivator"]["maxRetryCount"] = json!(0);
    }

    /// Pods fall sick one after the other, and the watch is too late to show what was cut: others are lost, or two
    /// breakers want to cut at once.
    fn blindfold(&mut self) {
        let by = self.dice.seconds(25, 60);
        let service = self.service;
        if self.dice.happens(50) {
            self.floor(67);
            self.sick(2, None);
            for pod in 3..6 {
                self.at(10, 40, Event::Crash { service, pod });
            }
        } else {
            self.floor(30);
            self.twice();
            for pod in 0..4 {
                self.at(10, 12, Event::Sicken { service, pod, share: 90, heals: None });
            }
        }
        self.fault(120, What::Lag(Kind::Pods, by), 100);
    }

    /// Two breakers find the same, one a moment after the other, and may cut less than they find.
    fn twice(&mut self) {
        let spec = &mut self.script.services[self.service].spec;
        spec["limits"] = json!({"maxCutRatio": 20, "maxCutsPerPeriod": 4});
        spec["breakers"][0]["evaluationPeriod"] = json!(2);
        let mut second = spec["breakers"][0].clone();
        (second["name"], second["evaluationPeriod"]) = (json!("rule-1"), json!(3));
        spec["breakers"].as_array_mut().into_iter().for_each(|breakers| breakers.push(second.clone()));
    }

    /// The server refuses most cuts, and says so.
    fn refused(&mut self) {
        self.sick(2, None);
        let code = self.dice.pick(&[410, 422, 429, 500]);
        self.fault(150, What::Refuse(code), 60);
    }

    /// Somebody opens pods that are out while they are as sick as before, and the watch shows it late.
    fn opened(&mut self) {
        let (service, by) = (self.service, self.dice.seconds(15, 40));
        self.sick(2, None);
        for pod in 0..2 {
            self.at(45, 110, Event::Flip { service, pod, to: Some("yes") });
        }
        self.fault(LENGTH, What::Lag(Kind::Pods, by), 100);
    }

    /// A pod is at the end of its ladder when most of the fleet goes away, and the floor still counts the rest.
    fn shrinks(&mut self) {
        let mode = self.dice.pick(&["retryAndKill", "retryAndPause"]);
        self.ladder(mode);
        self.floor(80);
        self.sick(1, None);
        let (service, now) = (self.service, self.script.services[self.service].replicas);
        self.at(35, 120, Event::Scale { service, replicas: now.div_ceil(2) });
    }

    /// A breaker that has cut pods only shows from then on.
    fn shown(&mut self) {
        let service = self.service;
        self.floor(30);
        self.script.services[service].spec["limits"]["maxCutsPerPeriod"] = json!(3);
        self.sick(4, None);
        self.at(50, 90, Event::Edit { service, edit: Edit::Show(true) });
        self.at(150, LENGTH, Event::Edit { service, edit: Edit::Show(false) });
    }

    /// One pod less, and the others cannot bear what it bore.
    fn overload(&mut self) {
        let plan = &mut self.script.services[self.service];
        plan.load.1 = 10;
        plan.spec["limits"]["maxAnomalousRatio"] = json!(40);
        let heals = self.dice.seconds(60, 120);
        self.sick(1, Some(heals));
    }

    /// People speak of pods that are out, and of others.
    fn wishes(&mut self) {
        let service = self.service;
        self.sick(2, None);
        for pod in 0..5 {
            let word = self.dice.pick(&["Serve", "Serve", "Cut", "Never"]);
            self.at(50, 130, Event::Wish { service, pod, word });
        }
        self.at(130, LENGTH, Event::Unsay);
    }

    /// A pod is to be evicted when another one is lost that a budget counts.
    fn guarded(&mut self) {
        self.ladder("retryAndKill");
        let pods = self.script.services[self.service].replicas;
        let plan = &mut self.script.services[self.service];
        plan.budget = Some(pods as u64 - self.dice.within(0, 2));
        plan.spec["limits"]["podDisruptionBudgets"] = json!("KillsOnly");
        self.sick(1, None);
        let (service, down) = (self.service, self.dice.seconds(30, 90));
        self.at(60, 150, Event::Flap { service, pod: 1, down });
    }

    /// More pods fall sick at once than may be cut over all services.
    fn braked(&mut self) {
        self.script.cuts_per_minute = self.dice.pick(&["1", "2", "2,50%"]);
        for service in 0..self.script.services.len() {
            self.script.services[service].spec["limits"]["maxCutsPerPeriod"] = json!(3);
            self.service = service;
            self.sick(3, None);
        }
    }

    /// Pods that no retry helps are kept for people.
    fn paused(&mut self) {
        self.ladder("retryAndPause");
        self.sick(3, None);
    }

    /// Others are lost for a while when pods are cut, so that these are needed, and no fault excuses who does not see
    /// it; then all are healthy for so long that strikes are forgiven.
    fn long_health(&mut self) {
        self.script.rest = LONG_REST;
        let (service, heals) = (self.service, self.dice.seconds(60, 120));
        self.script.faults.clear();
        self.script.events.clear();
        self.floor(67);
        self.sick(2, Some(heals));
        for pod in 3..6 {
            let down = self.dice.seconds(40, 70);
            self.at(65, 85, Event::Flap { service, pod, down });
        }
    }
}
