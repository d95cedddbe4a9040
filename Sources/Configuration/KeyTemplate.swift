/// How a row becomes a key: literal text, and columns in braces with optional filters, as in
/// `user:by-email:{email|lower}`. A final `*` stands for every key with the prefix before it.
public struct KeyTemplate: Hashable, Sendable, CustomStringConvertible {
  public enum Filter: String, Sendable, CaseIterable {
    /// ASCII and Unicode letters to lower case.
    case lower
    /// RFC 3986 percent-encoding of everything but unreserved characters, in place of the milder encoding
    /// that every value gets.
    case urlencode
    /// The value's text as PostgreSQL prints it, for types whose text an application may write differently.
    case raw
  }

  public enum Part: Hashable, Sendable {
    case literal(String)
    case column(name: String, filters: [Filter], place: SourcePlace)
  }

  public var parts: [Part]
  /// Whether the template ends in `*`.
  public var isPrefix: Bool
  /// As written in the file, without the namespace.
  public var text: String
  public var place: SourcePlace

  public init(parts: [Part], isPrefix: Bool, text: String, place: SourcePlace) {
    self.parts = parts
    self.isPrefix = isPrefix
    self.text = text
    self.place = place
  }

  public var description: String { text }
}
