// A figure of a notebook opens in full size when clicked: wide ones are small on a phone.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".cell_output img")) {
    const link = document.createElement("a");
    link.href = image.src;
    link.className = "genot-full-size";
    link.title = "Open in full size";
    image.replaceWith(link);
    link.append(image);
  }
});
