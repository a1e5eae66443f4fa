// The texts of a page that its background hides: those with less than 4.5 to 1 (WCAG 2.2, 1.4.3).
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true })
  const parse = color => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data
    return [r, g, b, alpha / 255]
  }
  const over = (top, below) => below.map((c, i) => top[i] * top[3] + c * (1 - top[3]))
  const behind = element => {
    if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255]
    const color = parse(getComputedStyle(element).backgroundColor)
    return over(color, color[3] == 1 ? [0, 0, 0] : behind(element.parentElement))
  }
  const brightness = color => color.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0.05)
  const found = new Set()
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter(node => node.nodeType == Node.TEXT_NODE).map(node => node.data).join("").trim()
    const isField = element.matches("input, textarea, select")
    if (!text && !isField || element.closest("script, style, svg, noscript, :disabled")) continue
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue
    const back = behind(element), color = over(parse(getComputedStyle(element).color), back)
    const [dark, light] = [brightness(color), brightness(back)].sort((a, b) => a - b)
    if (light / dark < 4.5) found.add(`${(light / dark).toFixed(1)}: ${text || element.tagName} (${element.className})`)
  }
  return [...found].slice(0, 20)
}
