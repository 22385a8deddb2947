//! What stood on a person's terminal, as the blocks of the README: each output below its command line. Pure.

/// A command line and what stood on the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// What was typed.
    pub command: String,
    /// What came, a line for each of the terminal's.
    pub screen: String,
}

/// All that a person looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// All KubervisorServices.
    pub list: Picture,
    /// Why a pod is cut.
    pub cut: Picture,
    /// Why one that is no better is not.
    pub kept: Picture,
    /// The live screen.
    pub watch: Picture,
}

impl Pictures {
    /// Each block with the name of its markers.
    pub fn blocks(&self) -> [(&'static str, String); 3] {
        let Self { list, cut, kept, watch } = self;
        let explain = format!("{}\n{}", whole(cut), answer(kept));
        [("get", whole(list)), ("explain", explain), ("watch", whole(watch))]
    }
}

fn whole(picture: &Picture) -> String {
    block(picture, picture.screen.trim_end())
}

/// The first paragraph, which is the answer; the rest has the form of the other one.
fn answer(picture: &Picture) -> String {
    let (answer, _) = picture.screen.split_once("\n\n").unwrap_or((&picture.screen, ""));
    block(picture, &format!("{answer}\n[...]"))
}

fn block(picture: &Picture, screen: &str) -> String {
    format!("$ {}\n{screen}\n", picture.command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_stands_below_its_command_and_the_second_explanation_is_short() {
        let of = |command: &str, screen: &str| Picture { command: command.into(), screen: screen.into() };
        let pictures = Pictures {
            list: of("get", "NAME\npear\n\n\n"),
            cut: of("explain red", "red is cut\n\nPod: red\n\n"),
            kept: of("explain blue", "blue serves,\nas it must\n\nPod: blue\n"),
            watch: of("watch", "all\n\n> pear\n"),
        };
        let explain =
            "$ explain red\nred is cut\n\nPod: red\n\n$ explain blue\nblue serves,\nas it must\n[...]\n";
        let blocks =
            [("get", "$ get\nNAME\npear\n"), ("explain", explain), ("watch", "$ watch\nall\n\n> pear\n")];
        assert_eq!(pictures.blocks(), blocks.map(|(name, text)| (name, text.to_owned())));
    }
}
