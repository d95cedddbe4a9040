import NIOHTTP1

/// The live page.
enum Page {
  /// Nothing from anywhere else: neither scripts nor pictures, and requests to this place only.
  static let policy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  static let answer = AdminAnswer(
    status: .ok, type: "text/html; charset=utf-8",
    body: String(decoding: PackageResources.page_html, as: UTF8.self))
}
