//! The keys `cell` and `cells`, of which one is set.

use fleet_core::CellId;

use super::values::{Layer, Values};

/// The cells, one at least and none twice; all that is wrong with them is said.
pub(super) fn read(values: &mut Values) -> Vec<CellId> {
    let chosen = values.either(&["cell", "cells"]);
    if chosen == Some("cells") {
        values.unset("cell");
        return several(values);
    }
    // A variable that somebody forgot to fill must not mean the default cell.
    if chosen.is_none() && values.layer("cells") != Layer::Default {
        values.say("cells", "is empty");
    }
    values.unset("cells");
    if values.layer("cell") == Layer::Default {
        values.set_default("cell", CellId::default().to_string());
    }
    let cell = CellId::new(values.text("cell"));
    vec![cell.map_err(|e| values.say("cell", e.to_string())).unwrap_or_default()]
}

fn several(values: &mut Values) -> Vec<CellId> {
    let text = values.text("cells").to_owned();
    let mut cells = Vec::new();
    for item in text.split(',').map(str::trim) {
        match CellId::new(item) {
            Ok(cell) if cells.contains(&cell) => values.say("cells", format!("{item:?} is named twice")),
            Ok(cell) => cells.push(cell),
            Err(e) => values.say("cells", e.to_string()),
        }
    }
    cells
}

/// Cells for people.
pub(super) fn list(cells: &[CellId]) -> String {
    cells.iter().map(CellId::as_str).collect::<Vec<_>>().join(", ")
}
