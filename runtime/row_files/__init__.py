"""Files of rows: a reader and a writer per format (`opening.FORMATS` is the table), and folders of images in."""
