//! Many rows as the parameters of one statement: an array for each column.

use sqlx::postgres::{PgBindIterExt, PgHasArrayType};
use sqlx::{Encode, Postgres, QueryBuilder, Type};

/// Rows made of arrays, a column each. In the select list they are unnested row by row; as a function in
/// the from clause each would first be copied as a whole, which costs three times as much.
pub(super) struct Rows<'q> {
    query: &'q mut QueryBuilder<Postgres>,
    lead: &'static str,
}

impl<'q> Rows<'q> {
    pub fn of(query: &'q mut QueryBuilder<Postgres>) -> Self {
        Self { query, lead: "select unnest(" }
    }

    pub fn column<'a, R, V>(&mut self, name: &str, rows: &'a [R], value: impl Fn(&'a R) -> V + 'a)
    where
        V: Encode<'a, Postgres> + Type<Postgres> + PgHasArrayType + 'a,
    {
        self.query.push(self.lead).push_bind(column(rows, value)).push(") as ").push(name);
        self.lead = ", unnest(";
    }
}

/// One column of some rows, as an array.
pub(super) fn column<'a, R, V>(
    rows: &'a [R],
    value: impl Fn(&'a R) -> V + 'a,
) -> impl Encode<'a, Postgres> + Type<Postgres> + 'a
where
    V: Encode<'a, Postgres> + Type<Postgres> + PgHasArrayType + 'a,
{
    rows.iter().map(value).bind_iter()
}
