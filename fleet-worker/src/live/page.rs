//! The page's files, part of the program.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};

/// A file with what a browser must know of it.
type File = ([(HeaderName, &'static str); 2], &'static str);

const fn file_of(kind: &'static str, text: &'static str) -> File {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page itself.
pub(super) const INDEX: File = file_of("text/html; charset=utf-8", include_str!("page/index.html"));

/// The file of that name.
pub(super) fn file(name: &str) -> Option<File> {
    Some(match name {
        "style.css" => file_of(STYLE, include_str!("page/style.css")),
        "app.js" => file_of(SCRIPT, include_str!("page/app.js")),
        "charts.js" => file_of(SCRIPT, include_str!("page/charts.js")),
        "format.js" => file_of(SCRIPT, include_str!("page/format.js")),
        "map.js" => file_of(SCRIPT, include_str!("page/map.js")),
        "icon.svg" => file_of("image/svg+xml", include_str!("page/icon.svg")),
        "uPlot.iife.min.js" => file_of(SCRIPT, include_str!("vendor/uplot/uPlot.iife.min.js")),
        "uPlot.min.css" => file_of(STYLE, include_str!("vendor/uplot/uPlot.min.css")),
        _ => return None,
    })
}
