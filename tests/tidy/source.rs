//! A Rust file as the rules look at it: code without comments, comments, and the texts in quotes.
//!
//! A scanner, not a parser: it knows strings, characters, comments and braces, which is enough for
//! rules about words and lengths.

/// A file under its path from the repository's root, with `/`.
pub struct Source {
    pub path: String,
    pub lines: Vec<Line>,
    /// What stands in quotes, with the number of the line where it begins.
    pub texts: Vec<(usize, String)>,
}

#[derive(Default)]
pub struct Line {
    pub whole: String,
    /// Without comments, and with nothing between the quotes.
    pub code: String,
    pub comment: String,
    /// Inside of `#[cfg(test)]`.
    pub is_test: bool,
}

/// One function: where it begins and ends, from 1.
pub struct Function {
    pub first_line: usize,
    pub last_line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut source = Self { path: path.to_owned(), lines: vec![], texts: vec![] };
        source.scan(text);
        for (line, whole) in source.lines.iter_mut().zip(text.lines()) {
            whole.clone_into(&mut line.whole);
        }
        source.mark_tests();
        source
    }

    fn scan(&mut self, text: &str) {
        let characters: Vec<char> = text.chars().collect();
        let mut place = Place::Code;
        let mut line = Line::default();
        let mut quoted = None;
        let mut at = 0;
        while at < characters.len() {
            let rest = &characters[at..];
            if rest[0] == '\n' {
                self.lines.push(std::mem::take(&mut line));
                if place == Place::LineComment {
                    place = Place::Code;
                }
            }
            let (next, taken) = step(place, rest);
            let is_text = |place| matches!(place, Place::Text | Place::RawText { .. });
            if !is_text(place) && is_text(next) {
                quoted = Some((self.lines.len() + 1, String::new()));
                line.code.push('"');
            } else if is_text(place) && !is_text(next) {
                self.texts.extend(quoted.take());
                line.code.push('"');
            } else if let Some((_, quoted)) = &mut quoted {
                quoted.extend(&rest[..taken]);
            } else if place == Place::Code && next == Place::Code {
                // A character in quotes is left out: it may be a brace or a quote.
                let kept = if taken > 1 { &[' '][..] } else { &rest[..1] };
                line.code.extend(kept.iter().filter(|character| **character != '\n'));
            } else if rest[0] != '\n' {
                line.comment.extend(&rest[..taken]);
            }
            place = next;
            at += taken;
        }
        if !line.code.is_empty() || !line.comment.is_empty() {
            self.lines.push(line);
        }
    }

    /// Marks the items that stand behind `#[cfg(test)]`, up to their closing brace or semicolon.
    fn mark_tests(&mut self) {
        let whole_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let mut depth = 0_usize;
        let mut begun = false;
        let mut inside = false;
        for line in &mut self.lines {
            if !inside && line.code.contains("#[cfg(test)]") {
                (inside, begun, depth) = (true, false, 0);
            }
            line.is_test = whole_file || inside;
            if !inside {
                continue;
            }
            for character in line.code.chars() {
                match character {
                    '{' => (depth, begun) = (depth + 1, true),
                    '}' => depth = depth.saturating_sub(1),
                    ';' if !begun => inside = false,
                    _ => {}
                }
            }
            inside &= !(begun && depth == 0);
        }
    }

    /// Every function with a body, also those inside of others.
    pub fn functions(&self) -> Vec<Function> {
        let code: Vec<(usize, char)> = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(at, line)| line.code.chars().chain(['\n']).map(move |character| (at + 1, character)))
            .collect();
        (0..code.len()).filter(|at| starts_function(&code, *at)).filter_map(|at| function_at(&code[at..])).collect()
    }
}

/// Where the next character stands, and how many characters belong to this step.
fn step(place: Place, rest: &[char]) -> (Place, usize) {
    let starts = |text: &str| text.chars().enumerate().all(|(at, character)| rest.get(at) == Some(&character));
    match place {
        Place::Code if starts("//") => (Place::LineComment, 2),
        Place::Code if starts("/*") => (Place::BlockComment { depth: 1 }, 2),
        Place::Code if starts("r\"") || starts("r#") => match raw_text_hashes(&rest[1..]) {
            Some(hashes) => (Place::RawText { hashes }, hashes + 2),
            None => (Place::Code, 1),
        },
        Place::Code if starts("\"") => (Place::Text, 1),
        Place::Code if starts("'\\") => {
            let length = rest.iter().skip(3).position(|character| *character == '\'').map_or(1, |at| at + 4);
            (Place::Code, length)
        }
        Place::Code if starts("'") && rest.get(2) == Some(&'\'') => (Place::Code, 3),
        Place::BlockComment { depth } if starts("/*") => (Place::BlockComment { depth: depth + 1 }, 2),
        Place::BlockComment { depth: 1 } if starts("*/") => (Place::Code, 2),
        Place::BlockComment { depth } if starts("*/") => (Place::BlockComment { depth: depth - 1 }, 2),
        Place::Text if starts("\"") => (Place::Code, 1),
        // A backslash before a line's end leaves that end to be seen.
        Place::Text if starts("\\") && !starts("\\\n") => (place, 2.min(rest.len())),
        Place::RawText { hashes } => {
            let ends = rest[0] == '"' && (1..=hashes).all(|at| rest.get(at) == Some(&'#'));
            if ends { (Place::Code, hashes + 1) } else { (place, 1) }
        }
        _ => (place, 1),
    }
}

/// How many `#` stand before the quote; `None` for a raw identifier.
fn raw_text_hashes(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|character| **character == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

fn starts_function(code: &[(usize, char)], at: usize) -> bool {
    let character = |at: usize| code.get(at).map_or(' ', |(_, character)| *character);
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let begins_word = at == 0 || !is_word(character(at - 1));
    begins_word && character(at) == 'f' && character(at + 1) == 'n' && character(at + 2) == ' '
}

/// `None` where it has no body.
fn function_at(code: &[(usize, char)]) -> Option<Function> {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for (line, character) in code {
        match character {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 && braces == 0 => return None,
            '{' if brackets == 0 => braces += 1,
            '}' if brackets == 0 => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(Function { first_line: code[0].0, last_line: *line });
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn comments_texts_and_code_are_told_apart() {
    let source = Source::new(
        "src/a.rs",
        "let a = \"x // {\\\" y\"; // say \"no\"\nlet b = r#\"one \"two\"\n{\"#; /* a /* b */ c */ let c = '{';\nlet d: &'a str = '\\'';",
    );
    let code: Vec<_> = source.lines.iter().map(|line| line.code.trim_end()).collect();
    assert_eq!(code, ["let a = \"\";", "let b = \"", "\";  let c =  ;", "let d: &'a str =  ;"]);
    assert_eq!(source.texts, [(1, "x // {\\\" y".to_owned()), (2, "one \"two\"\n{".to_owned())]);
    assert!(source.lines[0].comment.contains("say \"no\""));
}

#[test]
fn functions_are_measured_and_tests_are_marked() {
    let text = "trait A { fn no_body(&self) -> [u8; 3]; }\nfn one() {\n    let f: fn(u8) = |x| { x };\n}\n#[cfg(test)]\nmod tests {\n    fn two() {}\n}\nfn three() {}\n";
    let source = Source::new("src/a.rs", text);
    let measured: Vec<_> =
        source.functions().iter().map(|function| (function.first_line, function.last_line)).collect();
    assert_eq!(measured, [(2, 4), (7, 7), (9, 9)]);
    let tests: Vec<_> = source.lines.iter().map(|line| line.is_test).collect();
    assert_eq!(tests, [false, false, false, false, true, true, true, true, false]);
}
