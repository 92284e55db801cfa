// JSON merge patch (RFC 7396). Objects have no prototype, so that no name in them means anything else.

/** @param {unknown} target @param {unknown} patch */
export function merged(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const base = target !== null && typeof target === "object" && !Array.isArray(target) ? target : {};
  const made = Object.assign(Object.create(null), base);
  for (const name of Object.keys(patch)) {
    if (patch[name] === null) delete made[name];
    else made[name] = merged(made[name], patch[name]);
  }
  return made;
}
