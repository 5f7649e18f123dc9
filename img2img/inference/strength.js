// Draws on a canvas what lies a share of the way from one picture to another, whose size it gets; beyond 1 a pixel goes
// only as far as all its channels stay in range, so that its hue stays, as `blend` in strength.py does.
function mix(canvas, before, after, share) {
  const width = canvas.width = after.naturalWidth, height = canvas.height = after.naturalHeight;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(before, 0, 0, width, height);
  if (share <= 1) {
    pen.globalAlpha = share;
    pen.drawImage(after, 0, 0);
    return;
  }
  const from = pen.getImageData(0, 0, width, height).data;
  pen.drawImage(after, 0, 0);
  const image = pen.getImageData(0, 0, width, height), to = image.data;
  for (let at = 0; at < to.length; at += 4) {
    let most = share;
    for (let c = at; c < at + 3; c++) {
      const change = to[c] - from[c];
      if (change) most = Math.min(most, (change > 0 ? 255 - from[c] : from[c]) / Math.abs(change));
    }
    most = Math.max(1, most);
    for (let c = at; c < at + 3; c++) to[c] = from[c] + most * (to[c] - from[c]);
  }
  pen.putImageData(image, 0, 0);
}
