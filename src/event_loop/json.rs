//! A small writer of JSON: dumps, metrics and the timeline need neither a feature nor a dependency for it.

use std::fmt::{self, Write};

/// JSON text in the making. Commas come by themselves; that every object gets keys and every array none is with the caller.
#[derive(Debug, Default)]
pub(crate) struct Json {
    text: String,
    /// Whether the next key or element has one before it.
    comma: bool,
}

impl Json {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What has been written so far.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_string(self) -> String {
        self.text
    }

    /// Begins anew, with the memory there is: for those who write many values, one after the other.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.comma = false;
    }

    /// A value: the whole text, or an element of the array at hand.
    pub(crate) fn value(&mut self, value: impl Value) {
        self.next();
        value.write(self);
        self.comma = true;
    }

    /// A key of the object at hand, with its value.
    pub(crate) fn field(&mut self, key: &str, value: impl Value) {
        self.key(key);
        self.value(value);
    }

    /// A key of the object at hand; the next thing written is its value.
    pub(crate) fn key(&mut self, key: &str) {
        self.next();
        key.write(self);
        self.text.push(':');
        self.comma = false;
    }

    /// An object; `fields` writes its keys.
    pub(crate) fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.nested('{', fields, '}');
    }

    /// An array; `elements` writes its values.
    pub(crate) fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.nested('[', elements, ']');
    }

    fn nested(&mut self, open: char, inside: impl FnOnce(&mut Self), close: char) {
        self.next();
        self.text.push(open);
        self.comma = false;
        inside(self);
        self.text.push(close);
        self.comma = true;
    }

    fn next(&mut self) {
        if self.comma {
            self.text.push(',');
        }
    }
}

/// What [`Json`] can write.
pub(crate) trait Value {
    fn write(&self, json: &mut Json);
}

impl Value for str {
    fn write(&self, json: &mut Json) {
        Shown(self).write(json);
    }
}

/// A string out of what can be displayed, without a copy in between.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> Value for Shown<T> {
    fn write(&self, json: &mut Json) {
        json.text.push('"');
        // Writing to a string cannot fail; a `Display` that says that it does has written what it could.
        let _ = write!(Escaped(&mut json.text), "{}", self.0);
        json.text.push('"');
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Value for $number {
            fn write(&self, json: &mut Json) {
                let _ = write!(json.text, "{self}");
            }
        }
    )*};
}

numbers!(bool u32 u64 usize i32 i64);

impl Value for f64 {
    fn write(&self, json: &mut Json) {
        // JSON has no word for the others.
        if self.is_finite() {
            let _ = write!(json.text, "{self}");
        } else {
            json.text.push_str("null");
        }
    }
}

impl<V: Value> Value for Option<V> {
    fn write(&self, json: &mut Json) {
        match self {
            Some(value) => value.write(json),
            None => json.text.push_str("null"),
        }
    }
}

impl<V: Value + ?Sized> Value for &V {
    fn write(&self, json: &mut Json) {
        (**self).write(json);
    }
}

/// The inside of a string: what JSON does not allow there is escaped, the rest stays the UTF-8 that it is.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, char) in text.char_indices() {
            // JSON allows DEL and what is like it beyond ASCII, but terminals act on them.
            if !char.is_control() && !matches!(char, '"' | '\\') {
                continue;
            }
            self.0.push_str(&text[plain..at]);
            plain = at + char.len_utf8();
            match char {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                _ => write!(self.0, "\\u{:04x}", u32::from(char))?,
            }
        }
        self.0.push_str(&text[plain..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, Shown, Value};

    fn text(value: impl Value) -> String {
        let mut json = Json::new();
        json.value(value);
        json.into_string()
    }

    fn read(json: &str) -> serde_json::Value {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    #[test]
    fn values() {
        assert_eq!(text("plain"), r#""plain""#);
        assert_eq!(text(u64::MAX), "18446744073709551615");
        assert_eq!(text(-3_i64), "-3");
        assert_eq!(text(0.25), "0.25");
        assert_eq!(text(f64::NAN), "null");
        assert_eq!(text(true), "true");
        assert_eq!(text(None::<&str>), "null");
        assert_eq!(text(Some(7_usize)), "7");
    }

    #[test]
    fn strings_survive() {
        let every: String =
            (0..0x300).chain(0x2020..0x2030).chain(0x1f600..0x1f610).filter_map(char::from_u32).collect();
        let written = text(&*every);
        assert_eq!(read(&written), every);
        assert!(!written.chars().any(char::is_control));
        assert_eq!(text("a\"b\\c\nd\u{1}\u{7f}é"), "\"a\\\"b\\\\c\\nd\\u0001\\u007fé\"");
        assert_eq!(read(&text(Shown(format_args!("{:?} and {}", "quoted\n", 1)))), "\"quoted\\n\" and 1");
    }

    #[test]
    fn nested() {
        let mut json = Json::new();
        for _ in 0..2 {
            json.clear();
            json.object(|json| {
                json.field("a", 1_u64);
                json.key("list");
                json.array(|json| {
                    json.value("x");
                    json.object(|_| ());
                    json.array(|_| ());
                    json.object(|json| json.field("k\"", None::<u64>));
                });
                json.field("z", "end");
            });
            assert_eq!(json.as_str(), r#"{"a":1,"list":["x",{},[],{"k\"":null}],"z":"end"}"#);
            read(json.as_str());
        }
    }
}
