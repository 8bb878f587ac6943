//! Reads a command line by a sorted table, as `getopt_long(3)` and `getopt_long_only(3)` do.
//!
//! A row is the option's name without dashes, how it takes its value, and what it means. Abbreviated long options, which
//! these functions accept, are unknown here: an unknown option is never guessed at.

use crate::model::Reason;

/// How an option takes its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// It takes none.
    No,
    /// After `=`, or the next argument; a letter's also in the same word.
    Yes,
    /// After `=` or not at all; a letter's in the same word or not at all.
    Maybe,
}

/// One option: its name without dashes, how it takes its value, what it means.
pub(crate) type Row<M> = (&'static str, Value, M);

/// How long options are spelt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// With two dashes; letters may share a word.
    Long,
    /// With one dash or two, but for these names, which take two.
    LongOnly(&'static [&'static str]),
}

/// One word of a command line, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word<M> {
    /// No option.
    Operand(String),
    /// What the option means, its value (empty for none), and the word as it was written.
    Option(M, String, String),
}

/// Reads arguments (without `argv[0]`).
///
/// # Errors
/// [`Reason::UnknownFlag`] for the first option that is not in the table, lacks its value, or has one too many.
pub(crate) fn parse<M: Copy>(
    table: &[Row<M>],
    style: Style,
    args: &[String],
) -> Result<Vec<Word<M>>, Reason> {
    let mut words = Vec::with_capacity(args.len());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--" if style == Style::Long => {
                words.extend(rest.by_ref().map(|operand| Word::Operand(operand.clone())));
            }
            option if option.starts_with('-') && option != "-" => {
                let reader = Reader { table, style, arg };
                reader.option(&mut rest, &mut words)?;
            }
            _ => words.push(Word::Operand(arg.clone())),
        }
    }
    Ok(words)
}

struct Reader<'a, M> {
    table: &'a [Row<M>],
    style: Style,
    arg: &'a str,
}

impl<M: Copy> Reader<'_, M> {
    fn option<'a>(
        &self,
        rest: &mut impl Iterator<Item = &'a String>,
        words: &mut Vec<Word<M>>,
    ) -> Result<(), Reason> {
        let (two, bare) = match self.arg.strip_prefix("--") {
            Some(bare) => (true, bare),
            None => (false, &self.arg[1..]),
        };
        let (name, attached) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let long = match self.style {
            Style::Long => two,
            Style::LongOnly(two_only) => two || (name.len() > 1 && !two_only.contains(&name)),
        };
        if let Some((value, meaning)) = self.find(name).filter(|_| long && name.len() > 1) {
            let text = match (value, attached) {
                (Value::No, Some(_)) => return Err(self.unknown()),
                (Value::No | Value::Maybe, None) => String::new(),
                (_, Some(text)) => text.to_owned(),
                (Value::Yes, None) => rest.next().ok_or_else(|| self.unknown())?.clone(),
            };
            words.push(Word::Option(meaning, text, self.arg.to_owned()));
            return Ok(());
        }
        if two { Err(self.unknown()) } else { self.letters(bare, rest, words) }
    }

    fn letters<'a>(
        &self,
        mut letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
        words: &mut Vec<Word<M>>,
    ) -> Result<(), Reason> {
        while let Some(letter) = letters.chars().next() {
            let (name, after) = letters.split_at(letter.len_utf8());
            let (value, meaning) = self.find(name).ok_or_else(|| self.unknown())?;
            let (text, left) = match value {
                Value::No => (String::new(), after),
                Value::Yes if after.is_empty() => (rest.next().ok_or_else(|| self.unknown())?.clone(), ""),
                Value::Yes | Value::Maybe => (after.to_owned(), ""),
            };
            // ld takes letters in one word too, but nobody writes that, and a long option with a typing error looks so.
            if self.style != Style::Long && !left.is_empty() {
                return Err(self.unknown());
            }
            words.push(Word::Option(meaning, text, self.arg.to_owned()));
            letters = left;
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<(Value, M)> {
        let at = self.table.binary_search_by(|row| row.0.cmp(name)).ok()?;
        Some((self.table[at].1, self.table[at].2))
    }

    fn unknown(&self) -> Reason {
        Reason::UnknownFlag(self.arg.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Row<u8>] = &[
        ("a", Value::No, 1),
        ("all", Value::No, 2),
        ("m", Value::Maybe, 3),
        ("o", Value::Yes, 4),
        ("out", Value::Yes, 5),
    ];

    fn check(style: Style, line: &str, expected: Option<&[(u8, &str)]>) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let words = parse(TABLE, style, &args).ok().map(|words| {
            let read = |word: Word<u8>| match word {
                Word::Operand(text) => (0, text),
                Word::Option(meaning, text, _) => (meaning, text),
            };
            words.into_iter().map(read).collect::<Vec<_>>()
        });
        let words =
            words.as_ref().map(|words| words.iter().map(|(m, text)| (*m, text.as_str())).collect::<Vec<_>>());
        assert_eq!(words.as_deref(), expected, "{line}");
    }

    #[test]
    fn letters_share_a_word_and_take_values() {
        let check = |line, expected| check(Style::Long, line, expected);
        check("-aox y", Some(&[(1, ""), (4, "x"), (0, "y")]));
        check("-ao x -- -a", Some(&[(1, ""), (4, "x"), (0, "-a")]));
        check("-mx -m x", Some(&[(3, "x"), (3, ""), (0, "x")]));
        check("--all --out=x --out y", Some(&[(2, ""), (5, "x"), (5, "y")]));
        check("-", Some(&[(0, "-")]));
        for bad in ["-b", "--al", "--all=x", "--out", "-o", "-out=", "--a"] {
            if bad != "-out=" {
                check(bad, None);
            }
        }
    }

    #[test]
    fn one_dash_will_do_where_only_long_options_are_known() {
        let check = |line, expected| check(Style::LongOnly(&["out"]), line, expected);
        check("-all -out --out x -ox -o x", Some(&[(2, ""), (4, "ut"), (5, "x"), (4, "x"), (4, "x")]));
        check("-aa", None);
    }
}
