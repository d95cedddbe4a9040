/// Replaces `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${file:/path}`, `${cred:name}` and `$$`.
struct Expansion {
  let environment: [String: String]
  /// The bytes of a file, or nil if it cannot be read.
  let readFile: (String) -> [UInt8]?

  struct Failure: Error {
    var place: SourcePlace
    var code: ConfigurationCode
    var message: String
  }

  /// Expands `text` once: what a reference gives is not searched for further references.
  func expand(_ text: PlacedText) throws(Failure) -> PlacedText {
    guard text.text.utf8.contains(UInt8(ascii: "$")) else { return text }
    let scalars = Array(text.text.unicodeScalars)
    var out = text.emptied
    var at = 0
    while at < scalars.count {
      guard scalars[at] == "$" else {
        out.append(scalars[at], columns: text.columns[at])
        at += 1
        continue
      }
      switch at + 1 < scalars.count ? scalars[at + 1] : nil {
      case "$":
        out.append("$", columns: text.columns[at].lowerBound..<text.columns[at + 1].upperBound)
        at += 2
      case "{":
        guard let end = scalars[at...].firstIndex(of: "}") else {
          throw Failure(
            place: text.place(at..<at + 2), code: .badReference,
            message: "the closing brace of this reference is missing; a dollar sign itself is written $$")
        }
        let place = text.place(at..<end + 1)
        let value = try resolve(Array(scalars[at + 2..<end]), place: place)
        out.append(outside: value, columns: place.column..<place.column + place.length)
        at = end + 1
      default:
        throw Failure(
          place: text.place(at..<at + 1), code: .badReference,
          message: "a dollar sign is written $$, and an environment variable ${NAME}")
      }
    }
    return out
  }

  private func resolve(
    _ reference: [Unicode.Scalar], place: SourcePlace
  ) throws(Failure) -> String {
    let colon = reference.firstIndex(of: ":") ?? reference.count
    let name = string(reference[..<colon])
    let rest = reference[min(colon + 1, reference.count)...]
    func failure(_ code: ConfigurationCode, _ message: String) -> Failure {
      Failure(place: place, code: code, message: message)
    }
    if colon < reference.count, name == "file" { return try content(of: string(rest), place: place) }
    if colon < reference.count, name == "cred" {
      let file = string(rest)
      guard !file.isEmpty, !file.contains("/"), file != ".", file != ".." else {
        throw failure(.badReference, "a credential has the name that LoadCredential= gives it, without a /")
      }
      guard let folder = environment["CREDENTIALS_DIRECTORY"], !folder.isEmpty else {
        throw failure(
          .unsetVariable,
          "CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=\(file):…")
      }
      return try content(of: folder + "/" + file, place: place)
    }
    let first = name.utf8.first
    guard let first, !(0x30...0x39).contains(first), name.utf8.allSatisfy(isWord) else {
      throw failure(
        .badReference,
        "a reference is written ${NAME}, ${NAME:-default}, ${NAME:?message}, ${file:/path} or ${cred:name}")
    }
    let value = environment[name]
    guard colon < reference.count else {
      guard let value else {
        throw failure(
          .unsetVariable,
          "environment variable \(name) is not set; set it, or write ${\(name):-default}")
      }
      return value
    }
    switch rest.first {
    case "-":
      if let value, !value.isEmpty { return value }
      return string(rest.dropFirst())
    case "?":
      if let value, !value.isEmpty { return value }
      let message = rest.count > 1 ? string(rest.dropFirst()) : "set it"
      throw failure(.unsetVariable, "environment variable \(name) is not set: \(printable(message))")
    default:
      throw failure(
        .badReference, "after \(name): only a -default or a ?message can follow, as in ${\(name):-default}")
    }
  }

  /// A file's text without its final line end, which editors and `echo` add.
  private func content(of path: String, place: SourcePlace) throws(Failure) -> String {
    guard path.hasPrefix("/") else {
      throw Failure(place: place, code: .badReference, message: "a file is named with its whole path, from /")
    }
    guard var bytes = readFile(path) else {
      throw Failure(
        place: place, code: .unreadableFile, message: "the file \(quoted(path)) cannot be read")
    }
    if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    var at = 0
    while at < bytes.count {
      guard let length = scalarLength(bytes, at: at) else {
        throw Failure(
          place: place, code: .unreadableFile, message: "the file \(quoted(path)) does not hold UTF-8 text")
      }
      at += length
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }
}

/// Text without quotes around it, safe for a terminal.
func printable(_ text: String) -> String { String(quoted(text).dropFirst().dropLast()) }
