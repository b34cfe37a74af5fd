//! The life of versions and index epochs: what each may become, and what becomes of it.

use std::fmt;

use super::{KeyVersion, Keyring, NamedKey, State, Suite};
use crate::code::Code;

/// Which of the two lines of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its versions, which seal.
    Version,
    /// Its index epochs, under which tokens are made.
    Epoch,
}

/// A step in the life of a version or epoch that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Puts it in force; the one before retires.
    Promote,
    /// Takes it out of use, for now.
    Disable,
    /// Takes it into use again.
    Enable,
    /// Wipes its material, for ever.
    Destroy,
}

/// A version or epoch of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// The name of the key.
    pub key: String,
    /// A version or an epoch.
    pub part: Part,
    /// Its number; none where only one can be meant.
    pub number: Option<u32>,
}

/// Why a version or epoch does not become what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// No such key.
    #[error("there is no key {0:?}; `fieldseal keys list` shows what there is")]
    UnknownKey(String),
    /// No such version or epoch.
    #[error("{which} is not there; the key has {there}")]
    UnknownNumber {
        /// The one that was asked for.
        which: Which,
        /// What the key has.
        there: String,
    },
    /// None is in a state that can be left in this way.
    #[error("the key {:?} has no {} to {step}; it has {there}", which.key, which.part)]
    NoneMeant {
        /// What was asked for.
        which: Which,
        /// What was to be done with it.
        step: Step,
        /// What the key has.
        there: String,
    },
    /// Several are.
    #[error(
        "the key {:?} has several {}s to {step}: {there}; say which with {} N",
        which.key, which.part, which.part.flag()
    )]
    SeveralMeant {
        /// What was asked for.
        which: Which,
        /// What was to be done with it.
        step: Step,
        /// Those that can be meant.
        there: String,
    },
    /// Its state does not allow it.
    #[error("{which} is {}: {advice}", state.word())]
    State {
        /// The one that was asked for.
        which: Which,
        /// The state it is in.
        state: State,
        /// Why not, and what to run instead.
        advice: String,
    },
    /// A second one would be staged.
    #[error(
        "{which} is staged already; `fieldseal keys promote {}` puts it in force, `fieldseal keys disable {}` takes it away",
        which.arguments(), which.arguments()
    )]
    StagedAlready {
        /// The staged one.
        which: Which,
    },
    /// Index epochs are not replaced in one step.
    #[error(
        "an index epoch takes the place of another only when every document has its tokens: \
         run `fieldseal keys stage {0} --epoch`, then `fieldseal migrate reindex`, \
         which says when to run `fieldseal keys promote {0} --epoch`"
    )]
    EpochsDoNotRotate(String),
    /// The system gives no random numbers.
    #[error("the system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
}

impl StepError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownKey(_) => Code::UnknownKey,
            Self::Random(_) => Code::Random,
            _ => Code::KeyStep,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::Epoch => "index epoch",
        })
    }
}

impl Part {
    /// The argument of the command line that names one.
    fn flag(self) -> &'static str {
        match self {
            Self::Version => "--version",
            Self::Epoch => "--epoch",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Destroy => "destroy",
        })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        if let Some(number) = self.number {
            write!(f, " {number}")?;
        }
        write!(f, " of the key {:?}", self.key)
    }
}

impl Which {
    /// As arguments of the command line.
    fn arguments(&self) -> String {
        let number = self.number.map_or(String::new(), |n| format!(" {n}"));
        format!("{} {}{number}", self.key, self.part.flag())
    }

    fn numbered(&self, number: u32) -> Self {
        Self {
            number: Some(number),
            ..self.clone()
        }
    }
}

impl Step {
    /// The state that this step leads to from `state`, if it may be taken there.
    fn from(self, part: Part, state: State) -> Option<State> {
        match (self, part, state) {
            (Self::Promote, _, State::Staged) => Some(State::Active),
            (Self::Disable, _, State::Staged | State::Retired) => Some(State::Disabled),
            (Self::Enable, Part::Version, State::Disabled) => Some(State::Retired),
            // Documents that were written meanwhile lack its tokens: it is written
            // again, but not used before they are filled in.
            (Self::Enable, Part::Epoch, State::Disabled) => Some(State::Staged),
            (Self::Destroy, _, State::Disabled)
            | (Self::Destroy, Part::Version, State::Retired) => Some(State::Destroyed),
            _ => None,
        }
    }

    /// Why the step may not be taken, and what to run instead.
    fn advice(self, which: &Which, state: State) -> String {
        let (key, arguments) = (&which.key, which.arguments());
        match (self, state) {
            (_, State::Destroyed) => "its material is gone and cannot come back".to_owned(),
            (Self::Promote, State::Active) => "there is nothing left to do".to_owned(),
            (Self::Disable, State::Disabled)
            | (Self::Enable, State::Active | State::Staged | State::Retired) => {
                "there is nothing to do".to_owned()
            }
            (Self::Promote, State::Disabled) if which.part == Part::Epoch => {
                format!("`fieldseal keys enable {arguments}` stages it again")
            }
            (Self::Promote, _) => format!(
                "only a staged one can be put in force; `fieldseal keys stage {key}{}` makes one",
                if which.part == Part::Epoch {
                    " --epoch"
                } else {
                    ""
                }
            ),
            (Self::Disable | Self::Destroy, State::Active) => match which.part {
                Part::Version => {
                    format!("it seals; `fieldseal keys rotate {key}` lets another take its place")
                }
                Part::Epoch => format!(
                    "queries use it; `fieldseal keys stage {key} --epoch` and `fieldseal migrate reindex` let another take its place"
                ),
            },
            (Self::Destroy, _) => {
                format!("disable it first, with `fieldseal keys disable {arguments}`")
            }
            (Self::Disable | Self::Enable, _) => "this cannot be done".to_owned(),
        }
    }
}

impl NamedKey {
    fn line(&self, part: Part) -> &[KeyVersion] {
        match part {
            Part::Version => &self.versions,
            Part::Epoch => &self.epochs,
        }
    }

    fn line_mut(&mut self, part: Part) -> &mut Vec<KeyVersion> {
        match part {
            Part::Version => &mut self.versions,
            Part::Epoch => &mut self.epochs,
        }
    }

    /// Numbers and states, for errors.
    fn told(&self, part: Part, told: impl Fn(&KeyVersion) -> bool) -> String {
        let words: Vec<String> = self
            .line(part)
            .iter()
            .filter(|it| told(it))
            .map(|it| format!("{part} {} ({})", it.number, it.state.word()))
            .collect();
        words.join(", ")
    }

    fn refuse_second_staged(&self, part: Part) -> Result<(), StepError> {
        match self.line(part).iter().find(|it| it.state == State::Staged) {
            None => Ok(()),
            Some(staged) => Err(StepError::StagedAlready {
                which: Which {
                    key: self.name.clone(),
                    part,
                    number: Some(staged.number),
                },
            }),
        }
    }

    /// Where in its line the one is that `step` is to be taken with.
    fn find(&self, step: Step, which: &Which) -> Result<usize, StepError> {
        let part = which.part;
        let line = self.line(part);
        let Some(number) = which.number else {
            let may = |it: &KeyVersion| step.from(part, it.state).is_some();
            let mut meant = line.iter().enumerate().filter(|(_, it)| may(it));
            return match (meant.next(), meant.next()) {
                (Some((index, _)), None) => Ok(index),
                (None, _) => Err(StepError::NoneMeant {
                    which: which.clone(),
                    step,
                    there: self.told(part, |_| true),
                }),
                _ => Err(StepError::SeveralMeant {
                    which: which.clone(),
                    step,
                    there: self.told(part, may),
                }),
            };
        };
        line.iter()
            .position(|it| it.number == number)
            .ok_or_else(|| StepError::UnknownNumber {
                which: which.clone(),
                there: self.told(part, |_| true),
            })
    }
}

impl Keyring {
    fn named(&mut self, name: &str) -> Result<&mut NamedKey, StepError> {
        self.keys
            .iter_mut()
            .find(|key| key.name == name)
            .ok_or_else(|| StepError::UnknownKey(name.to_owned()))
    }

    /// Gives the key `name` a new version or epoch that is not used yet: a version may
    /// open, an epoch is written. A version has the `suite`, or that of the active one.
    /// Answers its number.
    pub fn stage(
        &mut self,
        name: &str,
        part: Part,
        suite: Option<Suite>,
    ) -> Result<u32, StepError> {
        let key = self.named(name)?;
        key.refuse_second_staged(part)?;
        let last = key.line(part).last();
        let number = last.map_or(0, |it| it.number).saturating_add(1);
        let suite = match part {
            Part::Version => suite.or_else(|| key.active()?.suite),
            Part::Epoch => None,
        };
        let fresh = KeyVersion {
            state: State::Staged,
            suite,
            ..self.fresh(number)?
        };
        self.named(name)?.line_mut(part).push(fresh);
        Ok(number)
    }

    /// Gives the key `name` a new active version; the one before still opens. Answers its number.
    pub fn rotate(&mut self, name: &str, suite: Option<Suite>) -> Result<u32, StepError> {
        let number = self.stage(name, Part::Version, suite)?;
        self.step(
            Step::Promote,
            &Which {
                key: name.to_owned(),
                part: Part::Version,
                number: Some(number),
            },
        )
    }

    /// Which one `step` would be taken with, if it may be.
    pub fn meant(&self, step: Step, which: &Which) -> Result<&KeyVersion, StepError> {
        let key = self
            .key(&which.key)
            .ok_or_else(|| StepError::UnknownKey(which.key.clone()))?;
        let index = key.find(step, which)?;
        let meant = key.line(which.part).get(index);
        let meant = meant.expect("the index was found in the same line");
        match step.from(which.part, meant.state) {
            None => {
                let which = which.numbered(meant.number);
                Err(StepError::State {
                    state: meant.state,
                    advice: step.advice(&which, meant.state),
                    which,
                })
            }
            Some(State::Staged) => {
                key.refuse_second_staged(which.part)?;
                Ok(meant)
            }
            Some(_) => Ok(meant),
        }
    }

    /// Takes one step in the life of a version or epoch. Answers its number.
    pub fn step(&mut self, step: Step, which: &Which) -> Result<u32, StepError> {
        let meant = self.meant(step, which)?;
        let (number, was) = (meant.number, meant.state);
        let line = self.named(&which.key)?.line_mut(which.part);
        for it in line {
            if it.number == number {
                it.state = step.from(which.part, was).unwrap_or(was);
                if it.state == State::Destroyed {
                    it.material = None;
                }
            } else if step == Step::Promote && it.state == State::Active {
                it.state = State::Retired;
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
