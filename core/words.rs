//! One word for each variant, and the list of all words, from one table: a variant without a word does not compile, and
//! no word can be missing from the list.

/// `pub fn NAME(VALUE: &ENUM) -> LIST { pattern => "word", … }`, in a module or, with `self`, in an `impl`. Patterns
/// after `else` take the words of another enum, which has a list of its own.
#[macro_export]
macro_rules! words {
    (
        $(#[$doc:meta])*
        $see:vis fn $name:ident($value:ident: $of:ty) -> $list:ident { $($variant:pat => $word:literal,)+ }
        $(else { $($other:pat => $theirs:expr,)+ })?
    ) => {
        /// Every word of its own.
        $see const $list: &'static [&'static str] = &[$($word),+];

        $(#[$doc])*
        #[must_use]
        $see fn $name($value: $of) -> &'static str {
            match $value {
                $($variant => $word,)+
                $($($other => $theirs,)+)?
            }
        }
    };
}
